/** Does something with each item, with so many at a time. */
export async function forEachOf<T>(items: Iterable<T>, act: (item: T) => Promise<unknown>, atATime = 4): Promise<void> {
  const left = [...items].values();
  const work = async (): Promise<void> => {
    for (const item of left) await act(item);
  };
  await Promise.all(Array.from({ length: atATime }, work));
}
