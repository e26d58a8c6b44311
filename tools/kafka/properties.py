"""What the processes of a local Kafka are told: the text of `server.properties`."""

from pathlib import Path
from typing import Final

from tools.kafka.node import HOST, Node

_COMMON: Final = """\
node.id={node}
process.roles={roles}
controller.quorum.voters={controller}@{host}:{controller_port}
controller.listener.names=CONTROLLER
listeners={listeners}
listener.security.protocol.map=CLIENTS:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
min.insync.replicas={in_sync}
offsets.topic.replication.factor={replicas}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr={in_sync}
share.coordinator.state.topic.num.partitions=4
group.initial.rebalance.delay.ms=0
# A killed broker may register again once its old session ran out: the default of 9 s is what a restart would take.
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=1000
# The default would take a quarter of the small heap.
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=2
num.io.threads=4
"""
# The controller makes topics. One that its first use creates has as many partitions as the embedded broker gives it.
_CONTROLLER: Final = """\
num.partitions=4
default.replication.factor={replicas}
"""
_BROKER: Final = """\
inter.broker.listener.name={between}
advertised.listeners={advertised}
"""
QUICK: Final = """\
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
"""
"""For a single broker that is killed and started again. Measured on two shared cores: 6 to 10 s without, 3 to 4 s with
this and less compiled code."""


def single(node: Node, controller_port: int) -> str:
    """For a broker that is its own controller."""
    text = _text(
        node,
        roles="broker,controller",
        listeners={"CLIENTS": node.port, "CONTROLLER": controller_port},
        controller=(node.number, controller_port),
        brokers=1,
    )
    clients = _BROKER.format(between="CLIENTS", advertised=_listeners({"CLIENTS": node.advertised_port}))
    return text + _CONTROLLER.format(replicas=1) + clients


def broker(node: Node, between_port: int, controller: Node, brokers: int) -> str:
    """For one of several brokers: they reach each other by a listener that no client knows."""
    return _text(
        node,
        roles="broker",
        listeners={"CLIENTS": node.port, "INTERNAL": between_port},
        controller=(controller.number, controller.port),
        brokers=brokers,
    ) + _BROKER.format(
        between="INTERNAL",
        advertised=_listeners({"CLIENTS": node.advertised_port, "INTERNAL": between_port}),
    )


def controller_only(node: Node, brokers: int) -> str:
    """For the controller of several brokers, which is none itself: it outlives whichever of them dies."""
    text = _text(
        node,
        roles="controller",
        listeners={"CONTROLLER": node.port},
        controller=(node.number, node.port),
        brokers=brokers,
    )
    return text + _CONTROLLER.format(replicas=_replicas(brokers))


def _text(node: Node, *, roles: str, listeners: dict[str, int], controller: tuple[int, int], brokers: int) -> str:
    replicas = _replicas(brokers)
    data: Path = node.data
    return _COMMON.format(
        node=node.number,
        roles=roles,
        host=HOST,
        controller=controller[0],
        controller_port=controller[1],
        listeners=_listeners(listeners),
        data=data,
        replicas=replicas,
        in_sync=max(1, replicas - 1),
    )


def _replicas(brokers: int) -> int:
    return min(brokers, 3)


def _listeners(ports: dict[str, int]) -> str:
    return ",".join(f"{name}://{HOST}:{port}" for name, port in ports.items())
