/**
 * Calls a function when the signal is aborted: at once if it is already, as no event follows then.
 * @returns a function that removes the listener
 */
export function onAbort(signal: AbortSignal, act: () => void): () => void {
  if (signal.aborted) act();
  else signal.addEventListener('abort', act, { once: true });
  return () => signal.removeEventListener('abort', act);
}

/**
 * The result of work that does not use the signal, or the abort's reason at once.
 * @param dispose gets a result that comes after that
 */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal, dispose: (late: T) => void): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const stopWatching = onAbort(signal, () => {
    work.then(dispose).catch(() => {});
    reject(signal.reason);
  });
  try {
    return await Promise.race([aborted, work]);
  } finally {
    stopWatching();
  }
}
