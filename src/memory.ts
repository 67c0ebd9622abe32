/*
 * What comes through a socket lies in buffers outside of V8's heap, and their size does not move V8 to collect the dead ones:
 * tens of MiB of them gather. It is asked to where that counts; without Node's --expose-gc (main.ts, Dockerfile) it is not.
 */

/** Frees the buffers that died young. Takes less than a millisecond. */
export function collectYoung(): void {
  globalThis.gc?.({ type: 'minor' });
}

/** Frees all that is dead. Takes some tens of milliseconds. */
export function collectAll(): void {
  globalThis.gc?.();
}
