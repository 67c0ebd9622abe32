// Bundles the program and its packages into a few files under dist/, of which a run loads only those that it needs: finding and
// reading a thousand small files takes Node longer than a small backup takes.
import { globSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { isBuiltin } from 'node:module';
import { basename, join, relative } from 'node:path';
import { build, type Metafile, type Plugin } from 'esbuild';
import protobuf from 'protobufjs';

const ROOT = join(import.meta.dirname, '..');
const DIST = join(ROOT, 'dist');

/** The calls of src/etcd. etcd's other calls are left out: each message takes time at every start. */
const CALLS = new Set([
  'Auth.Authenticate',
  ...['Cluster.MemberAdd', 'Cluster.MemberList', 'Cluster.MemberPromote', 'Cluster.MemberRemove'],
  'KV.Range',
  ...['Maintenance.HashKV', 'Maintenance.Status'],
]);

/**
 * Gives etcd3 our own loader of service definitions. gRPC itself needs one only for a diagnostic service that is never started
 * here, and gets the same.
 */
const withParsedServices: Plugin = {
  name: 'with parsed services',
  setup(bundler) {
    bundler.onResolve({ filter: /^@grpc\/proto-loader$/ }, () => ({
      path: join(import.meta.dirname, 'bundle', 'proto-loader.ts'),
    }));
  },
};

/**
 * Puts what most commands share into one file. Otherwise there is a file of each set of commands that share something, and a run
 * loads thirty of them: a millisecond each.
 */
const withOneSharedFile: Plugin = {
  name: 'with one shared file',
  setup(bundler) {
    const shared = globSync('src/{*,commands/command,config/*,monitoring/metrics,retention/*,snapshot/*,spool/*}.ts', {
      cwd: ROOT,
    })
      .filter((file) => file !== 'src/entry.ts' && file !== 'src/main.ts')
      .toSorted();
    bundler.onResolve({ filter: /^shared$/ }, () => ({ path: 'shared', namespace: 'shared' }));
    bundler.onLoad({ filter: /./, namespace: 'shared' }, () => ({
      contents: shared.map((file) => `import './${file}';`).join('\n'),
      resolveDir: ROOT,
    }));
    bundler.onLoad({ filter: /\.ts$/ }, async ({ path }) => {
      const file = relative(ROOT, path);
      if (!file.startsWith('src/') || file === 'src/entry.ts' || shared.includes(file)) return undefined;
      return { contents: `import 'shared';\n${await readFile(path, 'utf8')}`, loader: 'ts' };
    });
  },
};

/** Loads etcd3 with V8's code cache. */
function withCodeCache(file: string): Plugin {
  return {
    name: 'with code cache',
    setup(bundler) {
      bundler.onResolve({ filter: /^etcd3$/ }, () => ({ path: 'etcd3', namespace: 'code cache' }));
      bundler.onLoad({ filter: /./, namespace: 'code cache' }, () => ({
        contents: `module.exports = require('./bundle/code-cache.ts').load('${file}');`,
        resolveDir: import.meta.dirname,
      }));
    },
  };
}

const OPTIONS = {
  absWorkingDir: ROOT,
  outdir: DIST,
  bundle: true,
  platform: 'node',
  target: 'node22',
  // For readable stacks of unexpected errors.
  keepNames: true,
  legalComments: 'none',
  metafile: true,
  logLevel: 'warning',
} as const;

rmSync(DIST, { recursive: true, force: true });
const etcd = await build({
  ...OPTIONS,
  entryPoints: { etcd3: 'etcd3' },
  entryNames: '[name]-[hash]',
  format: 'cjs',
  outExtension: { '.js': '.cjs' },
  plugins: [withParsedServices],
  // etcd3 uses __dirname to name its file.
  define: { __dirname: '""', ETCD_SERVICES: JSON.stringify(services()) },
});
const program = await build({
  ...OPTIONS,
  entryPoints: { main: 'src/entry.ts' },
  chunkNames: '[name]-[hash]',
  splitting: true,
  format: 'esm',
  // Native code, in one package per platform.
  external: ['@node-rs/crc32'],
  plugins: [withOneSharedFile, withCodeCache(basename(Object.keys(etcd.metafile.outputs)[0] ?? ''))],
  // For packages that use `require`. This must run on any Node, because main.js reports a Node that is too old.
  banner: {
    js: "import { createRequire as makeRequire } from 'node:module';\nconst require = makeRequire(import.meta.url);",
  },
});
for (const file of Object.keys(program.metafile.outputs)) {
  const path = join(ROOT, file);
  writeFileSync(path, withLazyBuiltins(readFileSync(path, 'utf8')));
}
writeFileSync(
  join(DIST, 'THIRD-PARTY-NOTICES.txt'),
  notices({ ...etcd.metafile.outputs, ...program.metafile.outputs }),
);

/** The part of etcd3's definition of etcd's API that the program uses, as protobufjs' JSON. */
function services(): object {
  // etcd3 uses the names of the fields unchanged.
  const root = new protobuf.Root().loadSync(join(ROOT, 'node_modules', 'etcd3', 'proto', 'rpc.proto'), {
    keepCase: true,
  });
  const items = root.nestedArray.flatMap((item) => (item instanceof protobuf.Namespace ? item.nestedArray : []));
  const used = new Set<unknown>();
  const use = (type: protobuf.Type | protobuf.Enum | null): void => {
    if (used.has(type)) return;
    used.add(type);
    if (type instanceof protobuf.Type) for (const { resolvedType } of type.fieldsArray) use(resolvedType);
  };
  for (const service of items.filter((item) => item instanceof protobuf.Service)) {
    for (const method of service.methodsArray) {
      if (CALLS.has(`${service.name}.${method.name}`)) {
        use(method.resolvedRequestType);
        use(method.resolvedResponseType);
      } else service.remove(method);
    }
  }
  for (const item of items) if (item instanceof protobuf.Type && !used.has(item)) item.parent?.remove(item);
  return root.toJSON();
}

/**
 * Takes Node's own modules as they are. An `import` of one evaluates all its exports first, the lazy ones included: of `node:http`
 * that loads a second HTTP client, of `node:util` threads.
 */
function withLazyBuiltins(code: string): string {
  return code.replaceAll(/^import ([^"']+) from "([^"]+)";$/gm, (statement, names: string, module: string) => {
    if (!isBuiltin(module)) return statement;
    const targets = names
      .replace('* as ', '')
      .replaceAll(' as ', ': ')
      .split(/(?<=^\w+), /);
    return `const ${targets.map((target) => `${target} = process.getBuiltinModule("${module}")`).join(', ')};`;
  });
}

/** The licenses of all packages in the bundle. */
function notices(outputs: Metafile['outputs']): string {
  const files = Object.values(outputs).flatMap(({ inputs }) =>
    Object.entries(inputs).flatMap(([file, { bytesInOutput }]) => (bytesInOutput > 0 ? file : [])),
  );
  const folders = new Set(files.flatMap((file) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(file)?.[0] ?? []));
  return [...folders].toSorted().map(notice).join('\n\n');
}

function notice(folder: string): string {
  const { name, version, license } = JSON.parse(readFileSync(join(ROOT, folder, 'package.json'), 'utf8')) as {
    readonly [key: string]: string;
  };
  const texts = readdirSync(join(ROOT, folder))
    .filter((file) => /^(licen[cs]e|notice|copying)/i.test(file))
    .map((file) => readFileSync(join(ROOT, folder, file), 'utf8').trim());
  return [`--- ${name} ${version} (${license})`, ...texts].join('\n\n');
}
