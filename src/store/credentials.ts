import { Agent as PlainAgent } from 'node:http';
import { Agent as TlsAgent } from 'node:https';
import { BlobServiceClient, type ContainerClient, StorageSharedKeyCredential } from '@azure/storage-blob';
import type { StorageConfig } from '../config.ts';
import { tokenCredential } from './tokens.ts';

/** The client for the configured container; no request is made yet. @throws UsageError for an unusable file */
export async function openContainer({ credential, endpoint, container }: StorageConfig): Promise<ContainerClient> {
  return (await openService(credential, endpoint)).getContainerClient(container);
}

async function openService(credential: StorageConfig['credential'], endpoint: string): Promise<BlobServiceClient> {
  const options = optionsFor(endpoint);
  switch (credential.kind) {
    case 'key': {
      const sharedKey = new StorageSharedKeyCredential(credential.account, credential.key.reveal());
      return new BlobServiceClient(endpoint, sharedKey, options);
    }
    case 'sas':
      return new BlobServiceClient(`${endpoint}?${credential.token.reveal()}`, undefined, options);
    default:
      return new BlobServiceClient(endpoint, await tokenCredential(credential), options);
  }
}

/**
 * The SDK's own retries are off: `Requests` does them. Its deadlines do not end a request anyway. Nobody is followed elsewhere:
 * what proves our right is for the configured endpoint alone.
 */
function optionsFor(endpoint: string): object {
  const agent = agentFor(new URL(endpoint));
  return { retryOptions: { maxTries: 1 }, redirectOptions: { maxRetries: 0 }, ...(agent && { agent }) };
}

/** The SDK takes the brackets of an IPv6 address in a URL for a part of the host's name. Such a host is reached without a proxy. */
function agentFor({ protocol, hostname }: URL): PlainAgent | undefined {
  if (!hostname.startsWith('[')) return undefined;
  const agent = protocol === 'https:' ? new TlsAgent({ keepAlive: true }) : new PlainAgent({ keepAlive: true });
  const connect = agent.createConnection.bind(agent);
  agent.createConnection = (options, done) => connect({ ...options, host: hostname.slice(1, -1) }, done);
  return agent;
}
