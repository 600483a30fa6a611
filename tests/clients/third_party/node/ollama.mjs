// Ollama's official client; tests/clients has more of it.
import { Ollama } from 'ollama'
import * as c from './common.mjs'

const client = new Ollama({ host: c.url })
const user = (content) => [{ role: 'user', content }]
const base = { model: c.model, messages: user(c.capital), options: { temperature: 0, repeat_penalty: 1.0 } }
const tools = [{ type: 'function', function: c.weather }]
const ask = async (fields) => (await client.chat({ ...base, ...fields })).message
const calls = (message) => (message.tool_calls ?? []).map((one) => [one.function.name, one.function.arguments])

await c.run('ollama (Node)', {
  plain: async () => (await ask()).content,
  stream: async () => c.collect(await client.chat({ ...base, stream: true }), (p) => p.message.content),
  thinking: async () => {
    const got = await ask({ think: true })
    return [got.thinking.trim(), got.content]
  },
  tool: async () => calls(await ask({ messages: user(c.paris), tools })),
  twoTools: async () => calls(await ask({ messages: user(c.two), tools })),
  toolLoop: async () => {
    const got = await ask({ messages: user(c.paris), tools })
    return (await ask({ messages: [...user(c.paris), got, { role: 'tool', content: JSON.stringify(c.result) }], tools })).content
  },
  structured: async () => JSON.parse((await ask({ messages: user(c.person), format: c.personSchema })).content),
  embedBatch: async () => (await client.embed({ model: c.embedder, input: ['a', 'b'] })).embeddings,
  models: async () => (await client.list()).models.map((one) => one.model),
  unknownModel: () => c.caught(Error, () => ask({ model: 'nosuch' })),
})
