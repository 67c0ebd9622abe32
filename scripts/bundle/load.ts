// Loads the program with V8's code cache of a whole run. Node makes its own compile cache before a file runs, without the functions
// that V8 compiles when they are called first: nine tenths of what a start needs.
import { closeSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createRequire, getCompileCacheDir } from 'node:module';
import { fileURLToPath } from 'node:url';
import { Script } from 'node:vm';
import type { main as mainOfProgram } from '../../src/main.ts';

/** The file with src/main.ts, put here by the build. */
declare const PROGRAM: string;

type Run = (exports: object, require: (id: string) => unknown, module: object, importMetaUrl: string) => void;

const loaded = new Map<string, { readonly exports: object }>();
const requirePackage = createRequire(import.meta.url);
const caches = getCompileCacheDir();
/** What has no cache yet, by the file of the cache. */
const uncached = new Map<string, Script>();

/**
 * What `require` returns in the files of the program, which are CommonJS. Node's own modules are taken as they are: an `import` of one
 * evaluates all its exports, the lazy ones included, of `node:http` a second HTTP client.
 */
function load(id: string): unknown {
  if (!id.startsWith('./')) return process.getBuiltinModule(id) ?? requirePackage(id);
  const known = loaded.get(id);
  if (known !== undefined) return known.exports;
  const module = { exports: {} };
  loaded.set(id, module);
  const url = new URL(id, import.meta.url);
  const run = compiled(fileURLToPath(url), caches && `${caches}/${id}`).runInThisContext() as Run;
  run(module.exports, load, module, url.href);
  return module.exports;
}

/** @param cache made at the end of a run without one; its name has a hash of the content */
function compiled(filename: string, cache: string | undefined): Script {
  // The bundler escapes all that is not ASCII.
  const source = `(function (exports, require, module, importMetaUrl) {${readFileSync(filename, 'latin1')}\n})`;
  const cachedData = cache === undefined ? undefined : contentOf(cache);
  const script = new Script(source, { filename, ...(cachedData && { cachedData }) });
  if (cache !== undefined && (cachedData === undefined || script.cachedDataRejected === true))
    uncached.set(cache, script);
  return script;
}

function contentOf(file: string): Buffer | undefined {
  try {
    return readFileSync(file);
  } catch {
    return undefined;
  }
}

/** Completely or not at all, because others can be reading it. */
function writeCaches(): void {
  try {
    for (const [cache, script] of uncached) {
      const temporary = `${cache}.${process.pid}`;
      // Opened first, because the directory can be read-only, and making the cache takes time.
      const file = openSync(temporary, 'w');
      writeFileSync(file, script.createCachedData());
      closeSync(file);
      renameSync(temporary, cache);
    }
  } catch {
    // The next run tries it again.
  }
}

process.on('exit', writeCaches);
export const { main } = load(PROGRAM) as { readonly main: typeof mainOfProgram };
