// Bundles the program and its packages into a few files under dist/, of which a run loads only those that it needs: finding and
// reading a thousand small files takes Node longer than a small backup takes.
import { globSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, join, relative } from 'node:path';
import { build, type Metafile, type Plugin, transform } from 'esbuild';
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
    // With page.ts, because records need its constants while this file is loaded.
    const shared = globSync(
      'src/{*,commands/command,config/*,monitoring/metrics,retention/*,snapshot/*,snapshot/verify/page,spool/*}.ts',
      {
        cwd: ROOT,
      },
    )
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

/** Has the program loaded with V8's code cache. */
const withCodeCache: Plugin = {
  name: 'with code cache',
  setup(bundler) {
    bundler.onResolve({ filter: /^\.\/main\.ts$/ }, () => ({ path: join(import.meta.dirname, 'bundle', 'load.ts') }));
  },
};

const OPTIONS = {
  absWorkingDir: ROOT,
  outdir: DIST,
  chunkNames: '[name]-[hash]',
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node22',
  legalComments: 'none',
  logLevel: 'warning',
} as const;

rmSync(DIST, { recursive: true, force: true });
const { metafile } = await build({
  ...OPTIONS,
  entryPoints: ['src/main.ts'],
  entryNames: '[name]-[hash]',
  outExtension: { '.js': '.cjs' },
  // Native code, in one package per platform.
  external: ['@node-rs/crc32'],
  plugins: [withParsedServices, withOneSharedFile],
  // etcd3 uses __dirname to name its file.
  define: { __dirname: '""', ETCD_SERVICES: JSON.stringify(services()) },
  // For readable stacks of unexpected errors.
  keepNames: true,
  metafile: true,
});
for (const [file, output] of Object.entries(metafile.outputs)) {
  const path = join(ROOT, file);
  // load.ts defines `importMetaUrl`.
  const { code } = await transform(readFileSync(path, 'utf8'), {
    format: 'cjs',
    platform: 'node',
    target: OPTIONS.target,
    supported: { 'dynamic-import': false },
    define: { 'import.meta.url': 'importMetaUrl' },
  });
  writeFileSync(path, `// Has parts of: ${packagesIn(output).join(', ')}\n${code}`);
}
const program = Object.entries(metafile.outputs).find(([, { entryPoint }]) => entryPoint === 'src/main.ts');
await build({
  ...OPTIONS,
  // This must run on any Node, because it reports a Node that is too old.
  entryPoints: { main: 'src/entry.ts' },
  plugins: [withCodeCache],
  define: { PROGRAM: JSON.stringify(`./${basename(program?.[0] ?? '')}`) },
});
writeFileSync(join(DIST, 'THIRD-PARTY-NOTICES.txt'), notices(metafile));

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

/** The licenses of all packages in the bundle. */
function notices({ outputs }: Metafile): string {
  const folders = new Set(Object.values(outputs).flatMap(packagesIn));
  return [...folders].toSorted().map(notice).join('\n\n');
}

function packagesIn({ inputs }: Metafile['outputs'][string]): string[] {
  const files = Object.entries(inputs).flatMap(([file, { bytesInOutput }]) => (bytesInOutput > 0 ? file : []));
  return [...new Set(files.flatMap((file) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(file)?.[0] ?? []))];
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
