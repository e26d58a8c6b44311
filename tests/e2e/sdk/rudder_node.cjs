// Makes the calls of a job with the unmodified @rudderstack/rudder-sdk-node and prints the id of each message.
//
// This library tells nobody the ids that it mints (what its callbacks get is the compressed body), so it is given them.
'use strict'

const { randomUUID } = require('node:crypto')
const { setTimeout: sleep } = require('node:timers/promises')
const Analytics = require('@rudderstack/rudder-sdk-node')
const job = JSON.parse(require('node:fs').readFileSync(0, 'utf8'))

const analytics = new Analytics(job.writeKey, { dataPlaneUrl: job.endpoint, logLevel: 'none', retryCount: 10 })
let pending = job.calls.length

async function main() {
  for (const { type, ...call } of job.calls) {
    const messageId = randomUUID()
    analytics[type]({ ...call, messageId }, (error) => {
      pending -= 1
      if (error) {
        console.error(error)
        process.exitCode = 1
      } else {
        console.log(JSON.stringify({ messageId }))
      }
    })
  }
  // One flush sends one batch.
  while (pending > 0) {
    await analytics.flush()
    await sleep(10)
  }
}

main()
