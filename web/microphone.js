// The microphone, whose samples go straight to the worker.

/** Opens the microphone; `port` is where the worker gets blocks of samples from. */
export async function openMicrophone() {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Error('A browser gives the microphone only to pages from https or from localhost: open one.')
  }
  const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 1 }
  const stream = await allowed(plain)
  const context = new AudioContext()
  try {
    const port = await portOf(stream, context)
    return { port, rate: context.sampleRate, close: () => close(stream, context) }
  } catch (error) {
    close(stream, context)
    throw error
  }
}

/** What blocks of the stream come from. */
async function portOf(stream, context) {
  await context.audioWorklet.addModule('worklet.js')
  const { port1, port2 } = new MessageChannel()
  const node = new AudioWorkletNode(context, 'blocks', { numberOfOutputs: 0 })
  node.port.postMessage(null, [port1])
  context.createMediaStreamSource(stream).connect(node)
  await context.resume()
  return port2
}

async function allowed(audio) {
  try {
    return await navigator.mediaDevices.getUserMedia({ audio })
  } catch (error) {
    const isRefused = error.name === 'NotAllowedError'
    throw new Error(isRefused
      ? 'The microphone is not allowed: allow it beside the address of this page, and try again.'
      : `There is no microphone (${error.name}): plug one in, or choose a file.`)
  }
}

function close(stream, context) {
  stream.getTracks().forEach((track) => track.stop())
  context.close()
}
