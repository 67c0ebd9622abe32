import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { generate } from 'selfsigned';

interface Pair {
  readonly key: string;
  readonly cert: string;
}

export interface CertificateFiles {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

/** A throw-away CA with what it has signed, as files. */
export interface Authority {
  readonly dir: string;
  readonly ca: string;
  /** For servers on loopback, and for members as clients of each other. */
  readonly server: CertificateFiles;
  /** For a client called `root`. */
  readonly client: CertificateFiles;
}

const DAY = 86_400_000;

/**
 * Makes the CA, a server and a client certificate, named as the worker's default files are.
 * @param serverDays for which the server's certificate is still good; negative = it has expired
 * @param addresses of the server, besides loopback
 */
export async function makeAuthority(
  dir: string,
  name = 'test CA',
  serverDays = 365,
  addresses: readonly string[] = [],
): Promise<Authority> {
  await mkdir(dir, { recursive: true });
  const authority = await issue(name, true);
  const ca = join(dir, 'ca.crt');
  await writeFile(ca, authority.cert);
  const save = async (file: string, pair: Pair): Promise<CertificateFiles> => {
    const files = { ca, cert: join(dir, `${file}.crt`), key: join(dir, `${file}.key`) };
    await writeFile(files.cert, pair.cert);
    await writeFile(files.key, pair.key, { mode: 0o600 });
    return files;
  };
  return {
    dir,
    ca,
    server: await save('etcdserver', await issue('localhost', false, authority, serverDays, addresses)),
    client: await save('etcdclient', await issue('root', false, authority)),
  };
}

/** Makes this process trust what the authority has signed; for others there is NODE_EXTRA_CA_CERTS. */
export async function trust(authority: Authority): Promise<void> {
  setDefaultCACertificates([...getCACertificates(), await readFile(authority.ca, 'utf8')]);
}

/** A certificate with its RSA key in one file, as a service principal proves itself with. */
export async function makePrincipalFile(path: string, days = 365): Promise<string> {
  const { private: key, cert } = await generate([{ name: 'commonName', value: 'etcd-snapshot' }], {
    keyType: 'rsa',
    algorithm: 'sha256',
    notBeforeDate: new Date(Date.now() - 2 * DAY),
    notAfterDate: new Date(Date.now() + days * DAY),
  });
  await writeFile(path, `${cert}\n${key}`, { mode: 0o600 });
  return path;
}

async function issue(
  commonName: string,
  isCa: boolean,
  signer?: Pair,
  days = 365,
  addresses: readonly string[] = [],
): Promise<Pair> {
  const now = Date.now();
  const { private: key, cert } = await generate([{ name: 'commonName', value: commonName }], {
    keyType: 'ec',
    algorithm: 'sha256',
    notBeforeDate: new Date(now - 10 * DAY),
    notAfterDate: new Date(now + days * DAY),
    extensions: isCa
      ? [
          { name: 'basicConstraints', cA: true, critical: true },
          { name: 'keyUsage', keyCertSign: true, cRLSign: true, critical: true },
        ]
      : [
          { name: 'basicConstraints', cA: false },
          { name: 'keyUsage', digitalSignature: true, critical: true },
          { name: 'extKeyUsage', serverAuth: true, clientAuth: true },
          {
            name: 'subjectAltName',
            altNames: [
              { type: 2, value: 'localhost' },
              ...['127.0.0.1', ...addresses].map((ip) => ({ type: 7 as const, ip })),
            ],
          },
        ],
    ...(signer === undefined ? {} : { ca: signer }),
  });
  return { key, cert };
}
