#!/usr/bin/env -S node --max-semi-space-size=1 --
// The flags are those of the Dockerfile. The dashes prevent Node from treating our --env-file as its own option.
// This file runs on any Node, and loads the rest only where that can run: as `engines` in package.json says.
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
const isSupported = major > 23 || (major === 23 && minor >= 11) || (major === 22 && minor >= 15);
if (isSupported) {
  const { main } = await import('./main.ts');
  await main();
} else {
  const needed = 'etcd-snapshot needs Node.js 24, or at least 22.15 or 23.11';
  process.stderr.write(
    `error: ${needed}; this is ${process.versions.node}.\nhint: Install Node.js 24, or run the image.\n`,
  );
  process.exit(2);
}
