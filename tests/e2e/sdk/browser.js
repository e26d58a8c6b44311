// Makes the calls of a job with the unmodified @segment/analytics-next, as a page would, and reports the ids it minted.
'use strict'

// Which messages were answered with success: the library's own promises resolve when it has put one off, too.
const delivered = new Set()
const plainFetch = window.fetch
window.fetch = async (url, init) => {
  const response = await plainFetch(url, init)
  if (response.ok && init?.body) {
    const body = JSON.parse(init.body)
    for (const event of body.batch ?? [body]) {
      delivered.add(event.messageId)
    }
  }
  return response
}

async function makeCalls(job) {
  const collector = { apiHost: `${job.endpoint.replace('http://', '')}/v1`, protocol: 'http', ...job.delivery }
  const [analytics] = await AnalyticsNext.AnalyticsBrowser.load(
    { writeKey: job.writeKey, cdnURL: job.endpoint },
    { integrations: { 'Segment.io': collector } },
  )
  const sent = []
  let visitor
  for (const { type, ...call } of job.calls) {
    // The library knows who the visitor is from what came before; another one begins with an empty browser.
    if (call.anonymousId && call.anonymousId !== visitor) {
      visitor = call.anonymousId
      await analytics.reset()
      analytics.setAnonymousId(visitor)
    }
    sent.push((await make(analytics, type, call)).event.messageId)
  }
  while (!sent.every((messageId) => delivered.has(messageId))) {
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  return sent
}

function make(analytics, type, call) {
  const options = call.context ? { context: call.context } : {}
  switch (type) {
    case 'page':
      return analytics.page(call.category, call.name, call.properties, options)
    case 'screen':
      return analytics.screen(call.category, call.name, call.properties, options)
    case 'track':
      return analytics.track(call.event, call.properties, options)
    case 'identify':
      return call.userId ? analytics.identify(call.userId, call.traits, options) : analytics.identify(call.traits, options)
    case 'group':
      return analytics.group(call.groupId, call.traits, options)
    case 'alias':
      return analytics.alias(call.userId, call.previousId, options)
    default:
      throw new Error(`unknown call: ${type}`)
  }
}

async function main() {
  const job = await (await fetch('/job')).json()
  let report
  try {
    report = { messageIds: await makeCalls(job) }
  } catch (error) {
    report = { error: String(error?.stack ?? error) }
  }
  await fetch('/report', { method: 'POST', body: JSON.stringify(report) })
}

main()
