"""What can go wrong with topics, told to people."""


class TopicError(Exception):
    """Raised when a topic cannot be read or written as asked; the message says why and what to do."""
