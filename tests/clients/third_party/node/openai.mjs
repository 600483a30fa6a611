// OpenAI's official client: chat completions, its helpers, responses.
import OpenAI from 'openai'
import { zodResponseFormat, zodTextFormat } from 'openai/helpers/zod'
import { z } from 'zod'
import * as c from './common.mjs'

const client = new OpenAI({ baseURL: `${c.url}/v1`, apiKey: 'any', maxRetries: 0 })
const user = (content) => [{ role: 'user', content }]
const base = { model: c.model, temperature: 0, messages: user(c.capital) }
const tools = [{ type: 'function', function: c.weather }]
const Person = z.object({ name: z.string(), age: z.number().int(), city: z.string() })
const ask = async (fields) => (await client.chat.completions.create({ ...base, ...fields })).choices[0]
const calls = (message) => (message.tool_calls ?? []).map((one) => [one.function.name, JSON.parse(one.function.arguments)])
const runnable = [{ type: 'function', function: { ...c.weather, parse: JSON.parse, function: () => JSON.stringify(c.result) } }]

await c.run('openai (Node)', {
  plain: async () => (await ask()).message.content,
  completion: async () =>
    (await client.completions.create({ model: c.model, temperature: 0, prompt: 'The capital of France is' })).choices[0].text,
  stream: async () =>
    c.collect(await client.chat.completions.create({ ...base, stream: true }), (p) => p.choices[0]?.delta.content),
  system: async () => (await ask({ messages: [{ role: 'system', content: c.pirate }, ...user(c.capital)] })).message.content,
  history: async () => (await ask({ messages: c.history })).message.content,
  thinking: async () => {
    const { message } = await ask({ reasoning_effort: 'low' })
    return [message.reasoning.trim(), message.content]
  },
  thinkingStream: async () => {
    const stream = await client.chat.completions.create({ ...base, reasoning_effort: 'low', stream: true })
    const deltas = await c.collect(stream, (p) => p.choices[0].delta)
    return [deltas.map((d) => d.reasoning_content ?? '').join('').trim(), deltas.map((d) => d.content ?? '').join('')]
  },
  usage: async () => {
    const { usage } = await client.chat.completions.create(base)
    return [usage.prompt_tokens, usage.completion_tokens]
  },
  streamUsage: async () => {
    const stream = client.chat.completions.stream({ ...base, stream_options: { include_usage: true } })
    const usage = await stream.totalUsage()
    return [usage.prompt_tokens, usage.completion_tokens]
  },
  stop: async () => (await ask({ messages: user(c.count), stop: ['4'] })).message.content,
  maxTokens: async () => (await ask({ messages: user(c.count), max_completion_tokens: 5 })).finish_reason,
  seed: async () => {
    const texts = []
    for (const seed of [1, 1, 2]) texts.push((await ask({ temperature: 2, seed, max_tokens: 60 })).message.content)
    return texts
  },
  logprobs: async () => (await ask({ logprobs: true, top_logprobs: 2 })).logprobs.content.map((one) => one.logprob),
  tool: async () => calls((await ask({ messages: user(c.paris), tools })).message),
  twoTools: async () => calls((await ask({ messages: user(c.two), tools })).message),
  twoToolsStream: async () => {
    const stream = client.chat.completions.stream({ ...base, messages: user(c.two), tools })
    return calls(await stream.finalMessage())
  },
  requiredTool: async () => calls((await ask({ tools, tool_choice: 'required' })).message),
  namedTool: async () =>
    calls((await ask({ tools, tool_choice: { type: 'function', function: { name: c.weather.name } } })).message),
  noTool: async () => calls((await ask({ messages: user(c.paris), tools, tool_choice: 'none' })).message),
  toolLoop: () => client.chat.completions.runTools({ ...base, messages: user(c.paris), tools: runnable }).finalContent(),
  toolLoopStream: () =>
    client.chat.completions.runTools({ ...base, stream: true, messages: user(c.paris), tools: runnable }).finalContent(),
  json: async () => JSON.parse((await ask({ messages: user(c.person), response_format: { type: 'json_object' } })).message.content),
  structured: async () => {
    const format = zodResponseFormat(Person, 'person')
    const got = await client.chat.completions.parse({ ...base, messages: user(c.person), response_format: format })
    return got.choices[0].message.parsed
  },
  structuredStream: async () => {
    const format = zodResponseFormat(Person, 'person')
    const stream = client.chat.completions.stream({ ...base, messages: user(c.person), response_format: format })
    return (await stream.finalMessage()).parsed
  },
  embed: async () => (await client.embeddings.create({ model: c.embedder, input: 'a' })).data[0].embedding,
  embedBatch: async () =>
    (await client.embeddings.create({ model: c.embedder, input: ['a', 'b'], encoding_format: 'float' })).data.map((d) => d.embedding),
  models: async () => c.collect(await client.models.list(), (one) => one.id),
  checkModel: async () => client.models.retrieve(c.model),
  unknownModel: () => c.caught(OpenAI.NotFoundError, () => ask({ model: 'nosuch' })),
  unknownModelStream: () => c.caught(OpenAI.NotFoundError, () => ask({ model: 'nosuch', stream: true })),
  badRequest: () => c.caught(OpenAI.BadRequestError, () => ask({ temperature: -3 })),
  cancel: async () => {
    for (let round = 0; round < 5; round++) {
      const stream = await client.chat.completions.create({ ...base, messages: user(c.long), stream: true })
      for await (const _ of stream) break
      stream.controller.abort()
    }
    return (await ask()).message.content
  },
})

const respond = (fields) => client.responses.create({ model: c.model, temperature: 0, input: c.capital, ...fields })

await c.run('openai responses (Node)', {
  plain: async () => (await respond()).output_text,
  stream: async () => c.collect(await respond({ stream: true }), (e) => (e.type === 'response.output_text.delta' ? e.delta : '')),
  system: async () => (await respond({ instructions: c.pirate })).output_text,
  history: async () => (await respond({ input: c.history })).output_text,
  usage: async () => {
    const { usage } = await respond()
    return [usage.input_tokens, usage.output_tokens]
  },
  tool: async () => {
    const got = await respond({ input: c.paris, tools: [{ type: 'function', ...c.weather, strict: false }] })
    return got.output.filter((o) => o.type === 'function_call').map((o) => [o.name, JSON.parse(o.arguments)])
  },
  toolLoop: async () => {
    const fields = { tools: [{ type: 'function', ...c.weather, strict: false }] }
    const got = await respond({ ...fields, input: c.paris })
    const call = got.output.find((o) => o.type === 'function_call')
    const output = { type: 'function_call_output', call_id: call.call_id, output: JSON.stringify(c.result) }
    return (await respond({ ...fields, input: [...user(c.paris), ...got.output, output] })).output_text
  },
  structured: async () => {
    const format = zodTextFormat(Person, 'person')
    return (await client.responses.parse({ model: c.model, input: c.person, text: { format } })).output_parsed
  },
  unknownModel: () => c.caught(OpenAI.NotFoundError, () => respond({ model: 'nosuch' })),
})
