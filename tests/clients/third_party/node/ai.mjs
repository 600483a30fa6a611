// Vercel's AI SDK over its providers.
import { createAnthropic } from '@ai-sdk/anthropic'
import { createOpenAI } from '@ai-sdk/openai'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { APICallError, embed, embedMany, generateObject, generateText, jsonSchema, stepCountIs, streamObject, streamText, tool } from 'ai'
import { createOllama } from 'ollama-ai-provider-v2'
import { z } from 'zod'
import * as c from './common.mjs'

globalThis.AI_SDK_LOG_WARNINGS = false
const schema = z.object({ name: z.string(), age: z.number().int(), city: z.string() })
const inputSchema = jsonSchema(c.weather.parameters)
const free = { [c.weather.name]: tool({ description: c.weather.description, inputSchema }) }
const bound = { [c.weather.name]: tool({ description: c.weather.description, inputSchema, execute: async () => c.result }) }
const calls = (got) => got.map((one) => [one.toolName, one.input])

function steps(model, embedding, { forced = true, effort, providerOptions } = {}) {
  const base = { model: model(c.model), temperature: 0, maxRetries: 0, maxOutputTokens: 300, providerOptions }
  const ask = (fields) => generateText({ ...base, prompt: c.capital, ...fields })
  const stream = (fields) => streamText({ ...base, prompt: c.capital, onError: () => {}, ...fields })
  const all = {
    plain: async () => (await ask()).text,
    stream: async () => c.collect(stream().textStream),
    system: async () => (await ask({ system: c.pirate })).text,
    history: async () => (await ask({ prompt: undefined, messages: c.history })).text,
    usage: async () => {
      const { usage } = await ask()
      return [usage.inputTokens, usage.outputTokens]
    },
    streamUsage: async () => {
      const usage = await stream().usage
      return [usage.inputTokens, usage.outputTokens]
    },
    tool: async () => calls((await ask({ prompt: c.paris, tools: free })).toolCalls),
    twoTools: async () => calls((await ask({ prompt: c.two, tools: free })).toolCalls),
    twoToolsStream: async () => calls(await stream({ prompt: c.two, tools: free }).toolCalls),
    toolLoop: async () => (await ask({ prompt: c.paris, tools: bound, stopWhen: stepCountIs(3) })).text,
    toolLoopStream: async () => stream({ prompt: c.paris, tools: bound, stopWhen: stepCountIs(3) }).text,
    structured: async () => (await generateObject({ ...base, schema, prompt: c.person })).object,
    structuredStream: async () => (await c.collect(streamObject({ ...base, schema, prompt: c.person }).partialObjectStream)).at(-1),
    unknownModel: () => c.caught(APICallError, () => ask({ model: model('nosuch') })),
    cancel: async () => {
      for (let round = 0; round < 5; round++) {
        const controller = new AbortController()
        for await (const _ of stream({ prompt: c.long, abortSignal: controller.signal }).textStream) break
        controller.abort()
      }
      return (await ask()).text
    },
  }
  if (effort) {
    all.thinking = async () => {
      const got = await ask({ providerOptions: effort, maxOutputTokens: 2000 })
      return [got.reasoningText.trim(), got.text]
    }
    all.thinkingStream = async () => {
      const got = stream({ providerOptions: effort, maxOutputTokens: 2000 })
      return [(await got.reasoningText).trim(), await got.text]
    }
  }
  if (forced) {
    all.requiredTool = async () => calls((await ask({ tools: free, toolChoice: 'required' })).toolCalls)
    all.namedTool = async () => calls((await ask({ tools: free, toolChoice: { type: 'tool', toolName: c.weather.name } })).toolCalls)
  }
  if (embedding) {
    all.embed = async () => (await embed({ model: embedding(c.embedder), value: 'a' })).embedding
    all.embedBatch = async () => (await embedMany({ model: embedding(c.embedder), values: ['a', 'b'] })).embeddings
  }
  return all
}

const openai = createOpenAI({ baseURL: `${c.url}/v1`, apiKey: 'any' })
const compatible = createOpenAICompatible({ name: 'pronk', baseURL: `${c.url}/v1`, includeUsage: true, supportsStructuredOutputs: true })
const anthropic = createAnthropic({ baseURL: `${c.url}/v1`, apiKey: 'any' })
const ollama = createOllama({ baseURL: `${c.url}/api` })
const budget = { anthropic: { thinking: { type: 'enabled', budgetTokens: 1024 } } }

await c.run('ai openai chat', steps(openai.chat, openai.embedding))
await c.run('ai openai responses', steps(openai.responses, undefined, { providerOptions: { openai: { store: false } } })) // else it refers to stored items
await c.run('ai openai-compatible', steps(compatible, compatible.textEmbeddingModel, { effort: { pronk: { reasoningEffort: 'low' } } }))
await c.run('ai anthropic', steps(anthropic, undefined, { effort: budget }))
await c.run('ai ollama', steps(ollama, ollama.embedding, { forced: false, effort: { ollama: { think: true } } }))
