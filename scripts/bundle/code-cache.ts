// Loads a file of the bundle with V8's code cache of a whole run. Node makes its own compile cache before a file runs, without the
// functions that V8 compiles when they are called first: nine tenths of what a start needs.
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { getCompileCacheDir } from 'node:module';
import { join } from 'node:path';
import { Script } from 'node:vm';

/** What a CommonJS file in the program's directory exports. It can load Node's own modules only. @param name has a hash of its content */
export function load(name: string): unknown {
  const filename = join(import.meta.dirname, name);
  const directory = getCompileCacheDir();
  const cache = directory === undefined ? undefined : join(directory, name);
  const cachedData = cache === undefined ? undefined : contentOf(cache);
  const source = `(function (exports, require, module) {${readFileSync(filename, 'latin1')}\n})`;
  const script = new Script(source, { filename, ...(cachedData && { cachedData }) });
  if (cache !== undefined && (cachedData === undefined || script.cachedDataRejected === true)) {
    process.on('exit', () => write(cache, script.createCachedData()));
  }
  const module = { exports: {} };
  const run = script.runInThisContext() as (exports: object, require: object, module: object) => void;
  run(module.exports, (id: string) => process.getBuiltinModule(id), module);
  return module.exports;
}

function contentOf(file: string): Buffer | undefined {
  try {
    return readFileSync(file);
  } catch {
    return undefined;
  }
}

/** Completely or not at all, because others can be reading it. A directory that is read-only stays without. */
function write(file: string, content: Buffer): void {
  try {
    const temporary = `${file}.${process.pid}`;
    writeFileSync(temporary, content);
    renameSync(temporary, file);
  } catch {
    // The next run tries it again.
  }
}
