// Bundles the program and its packages into a few files under dist/, of which a run loads only those that it needs: finding and
// reading a thousand small files takes Node longer than a small backup takes.
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { join } from 'node:path';
import { build, type Metafile, type Plugin } from 'esbuild';
import protobuf from 'protobufjs';

const ROOT = join(import.meta.dirname, '..');
const DIST = join(ROOT, 'dist');

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
 * Takes Node's own modules as they are. An `import` of one evaluates all its exports first, the lazy ones included: of `node:http`
 * that loads a second HTTP client, which takes a tenth of the time until the first connection.
 */
const withLazyBuiltins: Plugin = {
  name: 'with lazy built-in modules',
  setup(bundler) {
    bundler.onResolve({ filter: /^[a-z_:/0-9]+$/ }, ({ path, kind }) =>
      kind === 'import-statement' && isBuiltin(path)
        ? { path: path.replace(/^(?!node:)/, 'node:'), namespace: 'built-in' }
        : undefined,
    );
    bundler.onLoad({ filter: /./, namespace: 'built-in' }, ({ path }) => ({
      contents: `module.exports = process.getBuiltinModule('${path}');`,
    }));
  },
};

// etcd3 uses the names of the fields unchanged.
const services = new protobuf.Root().loadSync(join(ROOT, 'node_modules', 'etcd3', 'proto', 'rpc.proto'), {
  keepCase: true,
});
rmSync(DIST, { recursive: true, force: true });
const { metafile } = await build({
  absWorkingDir: ROOT,
  entryPoints: { main: 'src/entry.ts' },
  outdir: DIST,
  chunkNames: '[name]-[hash]',
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node22',
  // Native code, in one package per platform.
  external: ['@node-rs/crc32'],
  plugins: [withParsedServices, withLazyBuiltins],
  // etcd3 uses __dirname to name its file.
  define: { __dirname: '""', ETCD_SERVICES: JSON.stringify(services.toJSON()) },
  // For packages that use `require`. This must run on any Node, because main.js reports a Node that is too old.
  banner: {
    js: "import { createRequire as makeRequire } from 'node:module';\nconst require = makeRequire(import.meta.url);",
  },
  // For readable stacks of unexpected errors.
  keepNames: true,
  legalComments: 'none',
  metafile: true,
  logLevel: 'warning',
});
writeFileSync(join(DIST, 'THIRD-PARTY-NOTICES.txt'), notices(metafile));

/** The licenses of all packages in the bundle. */
function notices({ outputs }: Metafile): string {
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
