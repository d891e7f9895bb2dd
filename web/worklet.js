// Runs beside the sound: gathers samples into blocks, and hands them on.

const SIZE = 1024

class Blocks extends AudioWorkletProcessor {
  constructor() {
    super()
    this.block = new Float32Array(SIZE)
    this.filled = 0
    this.port.onmessage = (e) => {
      this.out = e.ports[0]
      this.out.onmessage = () => this.end()
    }
  }

  process([input]) {
    if (!this.out || !input.length) return true
    for (const x of input[0]) {
      this.block[this.filled++] = x
      if (this.filled === SIZE) this.handOn()
    }
    return true
  }

  /** The samples since the last block, and that there are no more. */
  end() {
    const rest = this.block.slice(0, this.filled)
    if (rest.length) this.out.postMessage(rest, [rest.buffer])
    this.out.postMessage(null)
    this.out = null
  }

  handOn() {
    this.out.postMessage(this.block, [this.block.buffer])
    this.block = new Float32Array(SIZE)
    this.filled = 0
  }
}

registerProcessor('blocks', Blocks)
