// Anthropic's official client.
import Anthropic from '@anthropic-ai/sdk'
import { betaZodTool } from '@anthropic-ai/sdk/helpers/beta/zod'
import { z } from 'zod'
import * as c from './common.mjs'

const client = new Anthropic({ baseURL: c.url, authToken: 'any', apiKey: null, maxRetries: 0 })
const user = (content) => [{ role: 'user', content }]
const base = { model: c.model, max_tokens: 200, messages: user(c.capital), temperature: 0 }
const tools = [{ name: c.weather.name, description: c.weather.description, input_schema: c.weather.parameters }]
const ask = (fields) => client.messages.create({ ...base, ...fields })
const text = (message) => message.content.flatMap((block) => (block.type === 'text' ? [block.text] : [])).join('')
const calls = (message) => message.content.flatMap((b) => (b.type === 'tool_use' ? [[b.name, b.input]] : []))
const thinking = { type: 'enabled', budget_tokens: 1024 }

await c.run('anthropic (Node)', {
  plain: async () => text(await ask()),
  stream: async () => {
    const pieces = []
    await client.messages.stream(base).on('text', (piece) => pieces.push(piece)).finalMessage()
    return pieces
  },
  system: async () => text(await ask({ system: c.pirate })),
  history: async () => text(await ask({ messages: c.history })),
  thinking: async () => {
    const got = await ask({ thinking })
    return [got.content[0].thinking.trim(), text(got)]
  },
  thinkingStream: async () => {
    const got = await client.messages.stream({ ...base, thinking }).finalMessage()
    return [got.content[0].thinking.trim(), text(got)]
  },
  usage: async () => {
    const { usage } = await ask()
    return [usage.input_tokens + (usage.cache_read_input_tokens ?? 0), usage.output_tokens]
  },
  stop: async () => text(await ask({ messages: user(c.count), stop_sequences: ['4'], thinking: { type: 'disabled' } })),
  tool: async () => calls(await ask({ messages: user(c.paris), tools })),
  twoTools: async () => calls(await ask({ messages: user(c.two), tools })),
  twoToolsStream: async () => calls(await client.messages.stream({ ...base, messages: user(c.two), tools }).finalMessage()),
  requiredTool: async () => calls(await ask({ tools, tool_choice: { type: 'any' } })),
  namedTool: async () => calls(await ask({ tools, tool_choice: { type: 'tool', name: c.weather.name } })),
  noTool: async () => calls(await ask({ messages: user(c.paris), tools, tool_choice: { type: 'none' } })),
  toolLoop: async () => {
    const inputSchema = z.object({ city: z.string().describe('The name of the city') })
    const run = () => JSON.stringify(c.result)
    const tool = betaZodTool({ name: c.weather.name, description: c.weather.description, inputSchema, run })
    return text(await client.beta.messages.toolRunner({ ...base, messages: user(c.paris), tools: [tool] }))
  },
  models: async () => c.collect(await client.models.list(), (one) => one.id),
  checkTokens: () => client.messages.countTokens({ model: c.model, messages: user(c.capital) }),
  unknownModel: () => c.caught(Anthropic.NotFoundError, () => ask({ model: 'nosuch' })),
  badRequest: () => c.caught(Anthropic.BadRequestError, () => ask({ temperature: -3 })),
  cancel: async () => {
    for (let round = 0; round < 5; round++) {
      const stream = client.messages.stream({ ...base, messages: user(c.long) })
      for await (const _ of stream) break
      stream.abort()
    }
    return text(await ask())
  },
})
