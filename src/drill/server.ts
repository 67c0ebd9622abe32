import type { ChildProcess } from 'node:child_process';
import { createSign, generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { open, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { onAbort } from '../abort.ts';
import { UsageError, VerificationError } from '../errors.ts';
import { Connection } from '../etcd/connection.ts';
import { proveQuorum } from '../etcd/quorum.ts';
import { killChild, startChild } from '../exec.ts';
import { statOf } from '../disk.ts';
import {
  abortReason,
  CHILD_ENVIRONMENT,
  isExecutable,
  type MemberParameters,
  type RestoreTool,
} from '../restore/tool.ts';

interface RootToken {
  /** What etcd's `--auth-token` must say for it to take the token. */
  readonly flag: string;
  readonly token: string;
}

const LIFE_SECONDS = 86_400;

/**
 * A token of the user root for a server of our own, which is told to trust our signature: the snapshot of a cluster with
 * authentication can be looked into without knowing any password. Such a cluster always has the user root.
 * @param dir where the keys are kept
 * @param authRevision of the users and roles; a token of another one is refused
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

/** etcd wants a port in every address; in that of a socket it is a part of the file's name. */
const [CLIENT_SOCKET, PEER_SOCKET] = ['client:0', 'peer:0'];

/** Bytes: values may be as large as --max-request-bytes of the cluster allowed, and this is the limit of gRPC in Go. */
const LARGEST_ANSWER = 2 ** 31 - 1;

const POLL_MS = 50;

interface ServerOptions {
  /** Of etcd itself. */
  readonly program: string;
  /** Nobody else may look into it: sockets, log and keys are there. Held, so that its path is short enough for a socket. */
  readonly dir: string;
  /** What etcd's tool restored. */
  readonly dataDir: string;
  readonly member: MemberParameters;
  /** Where the snapshot has authentication on. */
  readonly rootToken: RootToken | undefined;
  readonly signal: AbortSignal;
}

/**
 * A real etcd on restored data, alone: it listens on sockets in a directory of ours and on no port, because what it serves
 * are a cluster's secrets.
 */
export class DrillServer {
  readonly connection: Connection;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, connection: Connection) {
    this.#child = child;
    this.connection = connection;
  }

  /**
   * Starts it and waits until it answers as a healthy cluster does. An abort kills it.
   * @throws VerificationError when it ends instead, with what it said last; UsageError; the abort's reason
   */
  static async start(options: ServerOptions): Promise<DrillServer> {
    const { program, dir, dataDir, member, rootToken, signal } = options;
    const socket = join(dir, CLIENT_SOCKET);
    const logFile = join(dir, 'etcd.log');
    const log = await open(logFile, 'w', 0o600);
    const args = [
      ...['--name', member.name, '--data-dir', dataDir],
      ...['--listen-client-urls', `unix://${CLIENT_SOCKET}`, '--advertise-client-urls', `unix://${CLIENT_SOCKET}`],
      ...['--listen-peer-urls', `unix://${PEER_SOCKET}`],
      ...(rootToken === undefined ? [] : ['--auth-token', rootToken.flag]),
    ];
    signal.throwIfAborted();
    const child = startChild(program, args, { cwd: dir, env: CHILD_ENVIRONMENT, stdio: ['ignore', log.fd, log.fd] });
    await Promise.all([once(child, 'spawn'), log.close()]);
    const connection = new Connection(`unix:${socket}`, undefined, undefined, rootToken?.token, LARGEST_ANSWER);
    const server = new DrillServer(child, connection);
    onAbort(signal, () => killChild(child));
    try {
      await server.#ready(socket, logFile, signal);
      return server;
    } catch (error) {
      await server.stop();
      throw signal.aborted ? abortReason(program, signal) : error;
    }
  }

  /** Ends it at once: nothing that it holds is needed. */
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

  async #answers(): Promise<boolean> {
    return proveQuorum(this.connection).then(
      () => true,
      () => false,
    );
  }

  async #ready(socket: string, logFile: string, signal: AbortSignal): Promise<void> {
    while (this.#isRunning) {
      if ((await statOf(socket)) !== undefined && (await this.#answers())) return;
      await sleep(POLL_MS, undefined, { signal });
    }
    const last = (await readFile(logFile, 'utf8')).trim().split('\n').at(-1) ?? '';
    throw new VerificationError(
      `etcd does not start from what was restored: ${last || 'it said nothing'}.`,
      'Is the etcd of the version that the snapshot is of? If so, the snapshot cannot be used: take another.',
    );
  }
}

/** The etcd that belongs to a tool, or else the one on the search path. @throws UsageError when there is none */
export async function findServer(tool: RestoreTool, searchPath: readonly string[]): Promise<string> {
  for (const dir of [dirname(tool.path), ...searchPath]) {
    const program = join(dir, 'etcd');
    if (await isExecutable(program)) return program;
  }
  throw new UsageError(
    'There is no etcd on the PATH, so nothing can be started from the snapshot.',
    'Run the image, which brings it, or put etcd on the PATH beside its etcdutl.',
  );
}
