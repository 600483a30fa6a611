// What a step has to give, and how steps are taken; the clients' modules say only how each client is asked.
import assert from 'node:assert/strict'

export const url = process.env.SERVER_URL
export const model = process.env.CHAT_MODEL ?? 'tinychat'
export const embedder = process.env.EMBED_MODEL ?? 'tinychat'

export const capital = 'What is the capital of Spain?'
export const answer = 'The capital of Spain is Madrid.'
export const thought = 'The user asks for the capital of Spain. It is Madrid.'
export const pirate = 'Speak like a pirate.'
export const history = [
  { role: 'user', content: 'My name is Grace.' },
  { role: 'assistant', content: 'Nice to meet you, Grace!' },
  { role: 'user', content: 'What is my name?' },
]
export const count = 'Count to 30'
export const long = 'Count to 100'
export const person = 'Return JSON with name Alice, age 31, city Oslo.'
export const personSchema = {
  type: 'object',
  properties: { name: { type: 'string' }, age: { type: 'integer' }, city: { type: 'string' } },
  required: ['name', 'age', 'city'],
  additionalProperties: false,
}
export const paris = 'What is the weather in Paris?'
export const two = 'What is the weather in Paris and London?'
export const weather = {
  name: 'get_current_weather',
  description: 'Get the current weather for a city',
  parameters: {
    type: 'object',
    properties: { city: { type: 'string', description: 'The name of the city' } },
    required: ['city'],
  },
}
export const result = { temperature: 22, condition: 'sunny' }

const call = (city) => [weather.name, { city }]
const equals = (wanted) => (got) => assert.deepEqual(got, wanted)
const includes =
  (...words) =>
  (got) =>
    words.forEach((word) => assert.ok(String(got).includes(word), `gave ${JSON.stringify(got)}`))
// A model this small need not find the right values where it is not asked its own way.
const somebody = (got) =>
  assert.deepEqual(
    Object.entries(got).map(([key, value]) => [key, typeof value]),
    [['name', 'string'], ['age', 'number'], ['city', 'string']], // prettier-ignore
  )
const counts = ([prompt, written]) => assert.ok(prompt > 10 && written > 7, `gave ${prompt}, ${written}`)
const vectors = ([one, other]) => {
  assert.ok(one.length > 60 && one.length === other.length)
  assert.notDeepEqual(one, other)
}

const expected = {
  plain: equals(answer),
  completion: includes('Paris'),
  stream: (pieces) => assert.equal(pieces.join(''), answer),
  system: equals('Arr! The capital of Spain is Madrid. Yo ho ho!'),
  history: equals('Your name is Grace.'),
  thinking: equals([thought, answer]),
  thinkingStream: equals([thought, answer]),
  usage: counts,
  streamUsage: counts,
  stop: (text) => assert.equal(text.replace(/[ ,]+$/, ''), '1, 2, 3'),
  maxTokens: equals('length'),
  seed: ([one, same, other]) => assert.ok(one === same && one !== other),
  logprobs: (found) => assert.ok(found.length > 6 && found.every((one) => one <= 0)),
  tool: equals([call('Paris')]),
  twoTools: equals([call('Paris'), call('London')]),
  twoToolsStream: equals([call('Paris'), call('London')]),
  requiredTool: (calls) => assert.deepEqual(calls.map(([name]) => name), [weather.name]), // prettier-ignore
  namedTool: (calls) => assert.deepEqual(calls.map(([name]) => name), [weather.name]), // prettier-ignore
  noTool: equals([]),
  toolLoop: includes('22'),
  toolLoopStream: includes('22'),
  json: equals({ name: 'Alice', age: 31, city: 'Oslo' }),
  structured: somebody,
  structuredStream: somebody,
  structuredTool: somebody,
  embed: (vector) => assert.ok(vector.length > 60),
  embedBatch: vectors,
  models: (names) => assert.ok(names.some((name) => name.split(':')[0] === model), `gave ${names}`),
  unknownModel: includes('nosuch', 'not found'),
  unknownModelStream: includes('nosuch', 'not found'),
  badRequest: includes('temperature'),
  cancel: equals(answer), // asked after an answer was left
}

// The text of the error that has to come.
export async function caught(kind, ask) {
  try {
    await ask()
  } catch (error) {
    assert.ok(error instanceof kind, `${error.constructor.name} is no ${kind.name}: ${error.message}`)
    return `${error.message} ${error.responseBody ?? ''}`
  }
  throw new Error(`no ${kind.name} came`)
}

export async function collect(stream, pick = (piece) => piece) {
  const pieces = []
  for await (const piece of stream) pieces.push(pick(piece) ?? '')
  return pieces
}

// Takes every step of a client and prints a line of JSON for each: client, step, error or null.
export async function run(client, steps) {
  for (const [step, ask] of Object.entries(steps)) {
    const start = Date.now()
    let error = null
    try {
      const got = await ask()
      if (!step.startsWith('check')) expected[step](got)
    } catch (caught) {
      error = `${caught.constructor.name}: ${caught.message}`.slice(0, 300)
    }
    console.log(JSON.stringify({ client, step, seconds: (Date.now() - start) / 1000, error }))
  }
}
