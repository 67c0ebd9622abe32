import { createSign, generateKeyPairSync } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

export interface RootToken {
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
