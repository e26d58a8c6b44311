// Makes the calls of a job with the unmodified @segment/analytics-node and prints the id of each message it minted.
'use strict'

const { Analytics } = require('@segment/analytics-node')
const job = JSON.parse(require('node:fs').readFileSync(0, 'utf8'))

const analytics = new Analytics({ writeKey: job.writeKey, host: job.endpoint })
analytics.on('error', (error) => {
  console.error(error)
  process.exitCode = 1
})

const report = (error, sent) => {
  if (error) {
    console.error(error)
    process.exitCode = 1
  } else {
    console.log(JSON.stringify({ messageId: sent.event.messageId }))
  }
}

async function main() {
  for (const { type, ...call } of job.calls) {
    analytics[type](call, report)
  }
  await analytics.closeAndFlush()
}

main()
