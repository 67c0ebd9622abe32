/** Where the Kubernetes API server keeps its objects unless it is told otherwise. */
const PREFIX = Buffer.from('/registry/');
const SLASH = 0x2f;
const DOT = 0x2e;
const SERVICES = Buffer.from('services');

/** What is known by the number OTHER: every key that is no object of the API server. */
const OTHER_NAME = '(other)';
const OTHER = 0;

/** Bytes at the start of a user key that can matter; a longer name of a resource is not one of Kubernetes. */
export const RESOURCE_HEAD = 256;

/** A cluster has some hundreds; more would be made to fill the memory. */
const MAX_RESOURCES = 4096;
const SLOT_BITS = 14;
const SLOTS = 2 ** SLOT_BITS;
const MAX_PROBES = 32;

/**
 * Numbers for the resources that user keys belong to (specification: content, per resource): the segment after
 * `/registry/`, and the next one too where the first is `services` or an API group (it has a dot).
 */
export class Resources {
  readonly #names: Buffer[] = [Buffer.from(OTHER_NAME)];
  readonly #slots = new Uint16Array(SLOTS);
  #full = false;

  /** More resources than can be told apart: the numbers given out since then mean nothing. */
  get full(): boolean {
    return this.#full;
  }

  get count(): number {
    return this.#names.length;
  }

  name(resource: number): string {
    return this.#names[resource]!.toString();
  }

  /** The resource of the user key in `bytes` from offset `from` up to `to`; only its head is looked at. */
  classify(bytes: Buffer, from: number, to: number): number {
    const end = Math.min(to, from + RESOURCE_HEAD);
    let at = from;
    if (end - from <= PREFIX.length) return OTHER;
    for (let i = 0; i < PREFIX.length; i++) if (bytes[at++] !== PREFIX[i]) return OTHER;
    const start = at;
    let hash = 0;
    let dotted = false;
    for (; at < end; at++) {
      const byte = bytes[at]!;
      if (byte === SLASH) break;
      if (byte === DOT) dotted = true;
      hash = (Math.imul(hash, 31) + byte) | 0;
    }
    if (at === end || at === start) return OTHER;
    if (dotted || isServices(bytes, start, at)) {
      const first = at;
      const hashOfFirst = hash;
      for (; at < end && (bytes[at] !== SLASH || at === first); at++) hash = (Math.imul(hash, 31) + bytes[at]!) | 0;
      // No third segment, so the second one is the object's own name.
      if (at === end) {
        at = first;
        hash = hashOfFirst;
      }
    }
    return this.#number(bytes, start, at, hash);
  }

  #number(bytes: Buffer, from: number, to: number, hash: number): number {
    // The last multiplication spreads names that differ in their last letters over the slots.
    let slot = Math.imul(hash, 0x9e3779b1) >>> (32 - SLOT_BITS);
    for (let probe = 0; probe < MAX_PROBES; probe++) {
      const resource = this.#slots[slot]!;
      if (resource === 0) return this.#add(Buffer.from(bytes.subarray(from, to)), slot);
      if (isSame(this.#names[resource]!, bytes, from, to)) return resource;
      slot = (slot + 1) % SLOTS;
    }
    this.#full = true;
    return OTHER;
  }

  #add(name: Buffer, slot: number): number {
    if (this.#names.length === MAX_RESOURCES) {
      this.#full = true;
      return OTHER;
    }
    this.#slots[slot] = this.#names.length;
    return this.#names.push(name) - 1;
  }
}

function isServices(bytes: Buffer, from: number, to: number): boolean {
  return isSame(SERVICES, bytes, from, to);
}

function isSame(name: Buffer, bytes: Buffer, from: number, to: number): boolean {
  if (name.length !== to - from) return false;
  for (let i = 0; i < name.length; i++) if (name[i] !== bytes[from + i]) return false;
  return true;
}
