import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { Connection } from '../src/etcd/connection.ts';
import type { Authority } from '../test/support/certificates.ts';
import { EtcdCluster, type EtcdTools } from '../test/support/etcd.ts';
import { freePort, mustRun } from '../test/support/process.ts';
import { MB } from './figures.ts';
import type { Command } from './measure.ts';
import { keyOf, objectOf, valueOf } from './objects.ts';

const OPERATIONS = 100;
const WRITERS = 4;
/** Different objects of Kubernetes; objects whose numbers differ by a multiple of KINDS are of one kind. */
const VALUES = 30_000;
const KINDS = 100;
const PATIENCE_MS = 60_000;
const TRIES = 10;
const TRANSACTIONS = 'etcd_disk_backend_snapshot_duration_seconds_sum';
/** The file itself grows in steps of 16 MB, of which a snapshot has only what was used. */
const SIZE = 'etcd_mvcc_db_total_size_in_bytes';

export interface SourceOptions {
  readonly tools: EtcdTools;
  readonly dir: string;
  readonly tls: Authority;
  /** Bytes of database. */
  readonly size: number;
  /** Bytes of a random value; undefined = objects of Kubernetes. */
  readonly valueSize?: () => number;
  /** Objects in protobuf, which can be read again. */
  readonly isProtobuf?: boolean;
}

/** One etcd over TLS, whose database looks like that of a Kubernetes cluster. */
export class Source {
  readonly cluster: EtcdCluster;
  readonly #options: SourceOptions;
  readonly #metrics: string;

  private constructor(cluster: EtcdCluster, options: SourceOptions, metrics: string) {
    this.cluster = cluster;
    this.#options = options;
    this.#metrics = metrics;
  }

  static async start(options: SourceOptions): Promise<Source> {
    const { tools, dir, tls } = options;
    const metrics = `http://127.0.0.1:${await freePort()}`;
    const flags = ['--listen-metrics-urls', metrics, '--quota-backend-bytes', String(32 * 1024 ** 3)];
    const source = new Source(await EtcdCluster.start({ tools, dir, tls, flags }), options, metrics);
    await source.#fill();
    return source;
  }

  get endpoint(): string {
    return this.cluster.endpoints;
  }

  /** What our programs are told to reach it. */
  get place(): string[] {
    const { ca, cert, key } = this.#options.tls.client;
    return [this.endpoint, ca, cert, key];
  }

  /** etcd's own tool, saving a snapshot of it. */
  save(file: string): Command {
    const { tools, tls } = this.#options;
    const { ca, cert, key } = tls.client;
    const flags = ['--endpoints', this.endpoint, '--cacert', ca, '--cert', cert, '--key', key];
    return ['env', 'ETCDCTL_API=3', tools.etcdctl, ...flags, 'snapshot', 'save', file];
  }

  /** Its snapshot as etcd's own tool saves it. */
  async saveTo(file: string): Promise<void> {
    const [command = '', ...args] = this.save(file);
    await mustRun(command, args);
  }

  /** Seconds for which etcd held read transactions for snapshots so far, as it tells itself. */
  async readTransactions(): Promise<number> {
    return this.#metric(TRANSACTIONS);
  }

  /** The same of what runs now. */
  async readTransactionsOf(run: () => Promise<unknown>): Promise<number> {
    const before = await this.readTransactions();
    await run();
    return (await this.readTransactions()) - before;
  }

  async stop(): Promise<void> {
    await this.cluster.stop();
    rmSync(this.#options.dir, { recursive: true, force: true });
  }

  /** On a busy machine etcd may not answer in time. That it did the work all the same is no harm here. */
  async #insist(write: () => Promise<unknown>): Promise<void> {
    for (let tries = 1; ; tries++) {
      try {
        await write();
        return;
      } catch (error) {
        if (tries === TRIES) throw error;
        await sleep(1000);
      }
    }
  }

  async #metric(name: string): Promise<number> {
    const text = await (await fetch(`${this.#metrics}/metrics`)).text();
    return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1]);
  }

  /** Writes, overwrites and deletes objects, and compacts, until the database has its size. */
  async #fill(): Promise<void> {
    const { size, valueSize, isProtobuf = false } = this.#options;
    // Making a value takes longer than storing it. They are used again after more bytes than a compressor looks back.
    const values = valueSize === undefined && !isProtobuf ? Array.from({ length: VALUES }, (_, id) => valueOf(id)) : [];
    const value = (id: number): Buffer => {
      // Two keys must not have the same object.
      if (isProtobuf) return objectOf(id);
      return values[(id + KINDS * random(VALUES / KINDS)) % VALUES] ?? randomBytes(valueSize?.() ?? 0);
    };
    const { client } = this.#options.tls;
    const files = { ca: await readFile(client.ca), cert: await readFile(client.cert), key: await readFile(client.key) };
    const connection = new Connection(this.endpoint, files);
    let [keys, revision, isFull] = [0, 1, false];
    const write = async (): Promise<void> => {
      while (!isFull) {
        const success = Array.from({ length: Math.min(OPERATIONS, Math.ceil(size / MB)) }, (_, i) => {
          const isOld = i % 10 >= 8 && keys > 10_000;
          // A transaction may name a key once, so each place in it has its own keys.
          const id = isOld ? random(Math.floor((keys - 2000) / OPERATIONS)) * OPERATIONS + i : keys++;
          const key = keyOf(id);
          if (isOld && i % 10 === 9) return { request_delete_range: { key } };
          return { request_put: { key, value: value(id) } };
        });
        await this.#insist(async () => connection.ask('KV', 'txn', { success }, PATIENCE_MS));
        if (revision % 20 === 0) isFull = (await this.#metric(SIZE)) >= size;
        if (++revision % 800 !== 0) continue;
        await connection.ask('KV', 'compact', { revision: revision - 400 }, PATIENCE_MS).catch(() => {});
      }
    };
    await Promise.all(Array.from({ length: WRITERS }, write));
    connection.close();
  }
}

function random(below: number): number {
  return Math.floor(Math.random() * below);
}
