import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { BlobServiceClient, type ContainerClient, StorageSharedKeyCredential } from '@azure/storage-blob';
import { Azurite } from '../test/support/azurite.ts';
import type { Authority } from '../test/support/certificates.ts';
import { Daemon, freePort, type Variables } from '../test/support/process.ts';

const SINK = join(import.meta.dirname, 'programs', 'sink.ts');
const ACCOUNT = 'testaccount';
const CONTAINER = 'bench';

export const STORES = ['azurite', 'https', 'http'] as const;
export type StoreName = (typeof STORES)[number];

/** What each store is called in the tables. */
export const STORE_TITLES: Readonly<Record<StoreName, string>> = {
  azurite: 'Azurite',
  https: 'the sink over TLS',
  http: 'the sink',
};

/** A store to upload to: Azurite, or the sink, which is as fast as a store can be on this machine. */
export class BlobTarget {
  readonly url: string;
  readonly #key: string;
  readonly #ca: string;
  readonly #container: ContainerClient;
  readonly #stop: () => Promise<void>;

  private constructor(url: string, key: string, ca: string, stop: () => Promise<void>) {
    this.url = url;
    this.#key = key;
    this.#ca = ca;
    this.#stop = stop;
    const credential = new StorageSharedKeyCredential(ACCOUNT, key);
    this.#container = new BlobServiceClient(url, credential).getContainerClient(CONTAINER);
  }

  /** This process must trust the authority. */
  static async start(name: StoreName, dir: string, tls: Authority): Promise<BlobTarget> {
    if (name === 'azurite') {
      const azurite = await Azurite.start(dir);
      return new BlobTarget(azurite.url, azurite.key, tls.ca, async () => {
        await azurite.stop();
        rmSync(dir, { recursive: true, force: true });
      });
    }
    const port = await freePort();
    const files = name === 'https' ? [tls.server.cert, tls.server.key] : [];
    const sink = await Daemon.start(process.execPath, [SINK, String(port), ...files], async () => accepts(port));
    const key = randomBytes(64).toString('base64');
    return new BlobTarget(`${name}://127.0.0.1:${port}/${ACCOUNT}`, key, tls.ca, async () => sink.stop());
  }

  /** The worker's. */
  get variables(): Variables {
    return {
      SNAPSHOT_AZURE_ACCOUNT_NAME: ACCOUNT,
      SNAPSHOT_AZURE_ACCOUNT_KEY: this.#key,
      SNAPSHOT_AZURE_CONTAINER_NAME: CONTAINER,
      SNAPSHOT_AZURE_BLOB_ENDPOINT: this.url,
      NODE_EXTRA_CA_CERTS: this.#ca,
    };
  }

  /** Those of the Azure CLI, which keeps its files in a folder of its own. */
  cliVariables(folder: string): Variables {
    const [protocol = ''] = this.url.split(':');
    return {
      AZURE_STORAGE_CONNECTION_STRING: `DefaultEndpointsProtocol=${protocol};AccountName=${ACCOUNT};AccountKey=${this.#key};BlobEndpoint=${this.url};`,
      AZURE_CONFIG_DIR: join(folder, 'azure'),
      AZURE_CORE_COLLECT_TELEMETRY: 'no',
      REQUESTS_CA_BUNDLE: this.#ca,
    };
  }

  /** The names of what is stored. */
  async names(): Promise<string[]> {
    const names: string[] = [];
    for await (const { name } of this.#container.listBlobsFlat()) names.push(name);
    return names;
  }

  /** Makes the container, or empties it. */
  async clear(): Promise<void> {
    await this.#container.createIfNotExists();
    for (const name of await this.names()) await this.#container.deleteBlob(name);
  }

  async stop(): Promise<void> {
    await this.#stop();
  }
}

async function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}
