// The JavaScript library of Ollama as a client of a gateway: `node ollama_client.mjs URL KEY`.
import assert from 'node:assert/strict'
import { Ollama } from 'ollama'

const [url, key] = process.argv.slice(2)
const ollama = new Ollama({ host: url, headers: { Authorization: `Bearer ${key}` } })
const messages = [{ role: 'user', content: 'hi' }]
const said = 'Hello from simulated backend first. You said: hi'

async function refused(ask) {
  try {
    await ask()
  } catch (error) {
    return error
  }
  assert.fail('no error')
}

const names = (await ollama.list()).models.map((model) => model.name).sort()
assert(names.includes('llama3.2:latest'))
console.log('list:', names.join(' '))

const whole = await ollama.chat({ model: 'llama3.2', messages })
assert.equal(whole.message.content, said)
console.log('chat:', whole.message.content)

let streamed = ''
let parts = 0
for await (const part of await ollama.chat({ model: 'llama3.2', messages, stream: true })) {
  streamed += part.message.content
  parts += 1
}
assert.equal(streamed, said)
console.log('stream:', parts, 'parts')

assert.equal((await ollama.generate({ model: 'llama3.2', prompt: 'hi' })).response, said)
const tool = { name: 'weather', description: 'The weather', parameters: { type: 'object', properties: { city: { type: 'string' } } } }
const called = await ollama.chat({ model: 'tools', messages, tools: [{ type: 'function', function: tool }] })
assert.deepEqual(called.message.tool_calls[0].function, { name: 'weather', arguments: { city: 'Paris' } })
console.log('tools:', JSON.stringify(called.message.tool_calls[0].function))

const { embeddings } = await ollama.embed({ model: 'nomic-embed-text', input: ['a', 'b'] })
assert.deepEqual(embeddings.map((vector) => vector.length), [16, 16])
console.log('embeddings:', embeddings.map((vector) => vector.length).join(' '))

assert('model_info' in (await ollama.show({ model: 'llama3.2' })))
assert((await ollama.ps()).models.some((model) => model.name === 'llama3.2:latest'))

const unknown = await refused(() => ollama.chat({ model: 'no-such-model', messages }))
assert.deepEqual([unknown.status_code, unknown.message], [403, 'access to this model is not allowed'])
console.log('error:', unknown.name, unknown.status_code, unknown.message)

const broken = await refused(async () => {
  for await (const _ of await ollama.chat({ model: 'breaks', messages, stream: true }));
})
assert.equal(broken.message, "the model's reply was interrupted")
console.log('broken stream:', broken.message)
