// Runs the official JavaScript client against the server at OLLAMA_URL and prints what it got, as one JSON object.
import { Ollama } from 'ollama'

const ollama = new Ollama({ host: process.env.OLLAMA_URL })
const model = 'tinychat'
const options = { temperature: 0, repeat_penalty: 1.0, seed: 1 }
const messages = [{ role: 'user', content: 'What is the capital of Spain?' }]

async function collect(stream, pick) {
  let text = ''
  let parts = 0
  for await (const part of stream) {
    text += pick(part)
    parts += 1
  }
  return { text, parts }
}

async function status(promise) {
  try {
    await promise
    return null
  } catch (error) {
    return { status: error.status_code, message: error.message }
  }
}

async function abort() {
  const stream = await ollama.generate({ model, prompt: 'Write a long story.', stream: true, options })
  for await (const _ of stream) {
    stream.abort()
    break
  }
  return true
}

console.log(
  JSON.stringify({
    pull: await ollama.pull({ model }),
    chat: (await ollama.chat({ model, messages, options })).message,
    chatStream: await collect(await ollama.chat({ model, messages, options, stream: true }), (p) => p.message.content),
    generate: (await ollama.generate({ model, prompt: 'Count to 5', options })).response,
    generateStream: await collect(
      await ollama.generate({ model, prompt: 'Count to 5', options, stream: true }),
      (p) => p.response,
    ),
    aborted: await abort(),
    list: (await ollama.list()).models.map((m) => m.name),
    ps: (await ollama.ps()).models.map((m) => m.name),
    show: (await ollama.show({ model })).details.family,
    missing: await status(ollama.chat({ model: 'nosuch', messages })),
  }),
)
