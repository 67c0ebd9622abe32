import { join, relative } from 'node:path';
import { parse } from 'yaml';

/* Manifests and configurations as YAML or JSON: texts of others, of any shape. */

/** Undefined for text that is neither. */
export function parseDocument(text: string): unknown {
  try {
    return parse(text);
  } catch {
    return undefined;
  }
}

export function at(value: unknown, key: string): unknown {
  return typeof value === 'object' && value !== null ? Object.getOwnPropertyDescriptor(value, key)?.value : undefined;
}

export function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

/** What the command line of a container has. */
export function wordsOfContainer(container: unknown): string[] {
  return [...list(at(container, 'command')), ...list(at(container, 'args'))].map(String);
}

/** Paths on the host by paths in the container. @param spec of the pod */
export function mountsOf(spec: unknown, container: unknown): Map<string, string> {
  const hostPaths = new Map(
    list(at(spec, 'volumes')).map((volume) => [at(volume, 'name'), at(at(volume, 'hostPath'), 'path')]),
  );
  const mounts = list(at(container, 'volumeMounts')).flatMap((mount) => {
    const [inside, outside] = [at(mount, 'mountPath'), hostPaths.get(at(mount, 'name'))];
    return typeof inside === 'string' && typeof outside === 'string' ? [[inside, outside] as const] : [];
  });
  return new Map(mounts);
}

/** The path on the host of a path in the container. */
export function onHost(path: string, mounts: ReadonlyMap<string, string>): string {
  const [best] = [...mounts]
    .filter(([inside]) => !relative(inside, path).startsWith('..'))
    .toSorted(([a], [b]) => b.length - a.length);
  return best === undefined ? path : join(best[1], relative(best[0], path));
}
