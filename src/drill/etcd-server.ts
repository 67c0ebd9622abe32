import type { ChildProcess } from 'node:child_process';
import { createSign, generateKeyPairSync } from 'node:crypto';
import { addAbortListener, once } from 'node:events';
import { open, readdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { emptyLocked, hasLock, HeldDirectory, lockDirectory } from '../directories.ts';
import { messageOf, UnsafeError, UsageError, VerificationError } from '../errors.ts';
import { proveQuorum } from '../etcd/cluster-health.ts';
import { Connection } from '../etcd/connection.ts';
import { onDisk, statOf } from '../files.ts';
import type { Log } from '../log.ts';
import { killChild, killWorkersIn, startChild } from '../process.ts';
import { abortReason, CHILD_ENVIRONMENT, isExecutable, type RestoreTool } from '../restore/etcd-tool.ts';

const PREFIX = 'etcd-drill-';

/** Milliseconds after which a directory without a lock is a leftover. */
const YOUNG = 600_000;

/** A private directory with the database of a drill, which contains all Secrets of a cluster. */
export class DrillDirectory {
  readonly #parent: HeldDirectory;
  readonly #dir: HeldDirectory;
  readonly #unlock: () => void;

  private constructor(parent: HeldDirectory, dir: HeldDirectory, unlock: () => void) {
    this.#parent = parent;
    this.#dir = dir;
    this.#unlock = unlock;
  }

  /** Also removes what killed drills of this user left next to it. @throws UsageError, UnsafeError */
  static async create(parentPath: string, log: Log): Promise<DrillDirectory> {
    const doing = `Creating a directory in ${parentPath}`;
    const parent = await onDisk(doing, () => HeldDirectory.open(resolve(parentPath)));
    await removeLeftovers(parent, log);
    const dir = await onDisk(doing, () => parent.makeTemporary(PREFIX));
    const unlock = await onDisk(doing, lockDirectory(dir));
    if (unlock === undefined) throw new UnsafeError(`Another run uses ${dir.name}.`, 'Run the drill again.');
    return new DrillDirectory(parent, dir, unlock);
  }

  get path(): string {
    return this.#dir.path;
  }

  async remove(): Promise<void> {
    await remove(this.#parent, this.#dir);
    this.#unlock();
  }
}

async function remove(parent: HeldDirectory, dir: HeldDirectory): Promise<void> {
  await emptyLocked(dir);
  await rmdir(parent.at(dir.ownName));
}

/** Of this user only, and never through a link; the etcd of a killed drill can still run there. */
async function removeLeftovers(parent: HeldDirectory, log: Log): Promise<void> {
  for (const name of await readdir(parent.path)) {
    if (!new RegExp(`^${PREFIX}\\w{6}$`).test(name)) continue;
    try {
      const dir = parent.findPrivate(name);
      if (dir === undefined || (Date.now() - dir.stats().ctimeMs < YOUNG && !(await hasLock(dir)))) continue;
      const unlock = await lockDirectory(dir);
      if (unlock === undefined) continue;
      killWorkersIn(dir.stats(), 'etcd');
      await remove(parent, dir);
      unlock();
      log.info('removed the directory of a killed drill', { dir: dir.name });
    } catch (error) {
      if (!(error instanceof UnsafeError)) log.warn(`cannot remove ${name}: ${messageOf(error)}`);
    }
  }
}

interface RootToken {
  /** The value of etcd's `--auth-token` with which it accepts the token. */
  readonly flag: string;
  readonly token: string;
}

const LIFE_SECONDS = 86_400;

/**
 * A token of the user root, which every cluster with authentication has. Our own server trusts our signature, so that its data
 * can be read without a password.
 * @param authRevision of the users and roles; etcd refuses a token of another one
 */
export async function makeRootToken(dir: string, authRevision: bigint): Promise<RootToken> {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const [publicFile, privateFile] = [join(dir, 'token.pub'), join(dir, 'token.key')];
  await writeFile(publicFile, publicKey.export({ type: 'spki', format: 'pem' }));
  await writeFile(privateFile, privateKey.export({ type: 'pkcs1', format: 'pem' }), { mode: 0o600 });
  const exp = Math.floor(Date.now() / 1000) + LIFE_SECONDS;
  const claims = { username: 'root', revision: Number(authRevision), exp };
  const signed = `${base64url({ alg: 'RS256', typ: 'JWT' })}.${base64url(claims)}`;
  const signature = createSign('RSA-SHA256').update(signed).sign(privateKey, 'base64url');
  return {
    flag: `jwt,pub-key=${publicFile},priv-key=${privateFile},sign-method=RS256,ttl=${LIFE_SECONDS}s`,
    token: `${signed}.${signature}`,
  };
}

function base64url(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}

/** etcd requires a port in every address; in that of a socket it is a part of the file name. */
const [CLIENT_SOCKET, PEER_SOCKET] = ['client:0', 'peer:0'];

/** Bytes: the limit of gRPC in Go. Values can be as large as --max-request-bytes of the cluster allowed. */
const MAX_RESPONSE = 2 ** 31 - 1;

/** Milliseconds: it answers only to us, and a busy host must not fail a drill. SNAPSHOT_TIMEOUT ends it all the same. */
const ANSWER_MS = 120_000;

const POLL_MS = 50;

interface ServerOptions {
  /** Of etcd itself. */
  readonly program: string;
  /** Private: contains sockets, log and keys. A held path, which is short enough for a socket. */
  readonly dir: string;
  /** Restored by etcd's tool for the member `name`. */
  readonly dataDir: string;
  readonly name: string;
  /** Undefined where the snapshot has authentication off. */
  readonly rootToken: RootToken | undefined;
  readonly signal: AbortSignal;
}

/** A real etcd with the restored data. It listens on sockets in a private directory and on no port, because it serves Secrets. */
export class DrillServer {
  readonly connection: Connection;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, connection: Connection) {
    this.#child = child;
    this.connection = connection;
  }

  /**
   * Starts it and waits until it is healthy. An abort kills it.
   * @throws VerificationError with the last line of its log when it exits instead; UsageError; the abort's reason
   */
  static async start(options: ServerOptions): Promise<DrillServer> {
    const { program, dir, dataDir, name, rootToken, signal } = options;
    const socket = join(dir, CLIENT_SOCKET);
    const logFile = join(dir, 'etcd.log');
    const log = await open(logFile, 'w', 0o600);
    const args = [
      ...['--name', name, '--data-dir', dataDir],
      ...['--listen-client-urls', `unix://${CLIENT_SOCKET}`, '--advertise-client-urls', `unix://${CLIENT_SOCKET}`],
      ...['--listen-peer-urls', `unix://${PEER_SOCKET}`],
      ...(rootToken === undefined ? [] : ['--auth-token', rootToken.flag]),
    ];
    signal.throwIfAborted();
    const child = startChild(program, args, { cwd: dir, env: CHILD_ENVIRONMENT, stdio: ['ignore', log.fd, log.fd] });
    await Promise.all([once(child, 'spawn'), log.close()]);
    const own = { token: rootToken?.token, largestAnswer: MAX_RESPONSE, answerMs: ANSWER_MS };
    const connection = new Connection(`unix:${socket}`, undefined, undefined, own);
    const server = new DrillServer(child, connection);
    addAbortListener(signal, () => killChild(child));
    try {
      await server.#ready(socket, logFile, signal);
      return server;
    } catch (error) {
      await server.stop();
      throw signal.aborted ? abortReason(program, signal) : error;
    }
  }

  /** Kills it: its data is not needed. */
  async stop(): Promise<void> {
    this.connection.close();
    if (!this.#isRunning) return;
    const closed = once(this.#child, 'close');
    killChild(this.#child);
    await closed;
  }

  get #isRunning(): boolean {
    return this.#child.pid !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  async #ready(socket: string, logFile: string, signal: AbortSignal): Promise<void> {
    while (this.#isRunning) {
      const isListening = (await statOf(socket)) !== undefined;
      if (isListening && (await succeeds(proveQuorum(this.connection)))) return;
      await sleep(POLL_MS, undefined, { signal });
    }
    const last = (await readFile(logFile, 'utf8')).trim().split('\n').at(-1) ?? '';
    throw new VerificationError(
      `etcd does not start with the restored data: ${last || 'its log is empty'}.`,
      'Check that etcd has the version of the snapshot. If it has, the snapshot is unusable: take another one.',
    );
  }
}

/** The etcd next to a tool, or else on the search path. @throws UsageError when there is none */
export async function findServer(tool: RestoreTool, searchPath: readonly string[]): Promise<string> {
  for (const dir of [dirname(tool.path), ...searchPath]) {
    const program = join(dir, 'etcd');
    if (await isExecutable(program)) return program;
  }
  throw new UsageError(
    'The drill cannot start an etcd: there is none on the PATH.',
    'Run the image, which contains it, or put etcd on the PATH next to its etcdutl.',
  );
}

async function succeeds(work: Promise<unknown>): Promise<boolean> {
  return work.then(
    () => true,
    () => false,
  );
}
