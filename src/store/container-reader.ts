import type { BlobServiceClient, ContainerClient, ServiceListContainersSegmentResponse } from '@azure/storage-blob';
import type { StorageConfig } from '../config/config.ts';
import { TYPES } from '../config/value-types.ts';
import { StorageError } from '../errors.ts';
import type { Log } from '../log.ts';
import type { Signatures } from '../sealed/signature.ts';
import { openService, type SdkCredential, sdkCredential } from './azure-credential.ts';
import { inventoryOf, listContainer, listEveryPrefix, type Listing, type StoredBlob } from './catalogue.ts';
import { type DrillNote, drillsOf } from './drill-notes.ts';
import { BROKEN, UNTRUSTED } from './errors.ts';
import { PAGE_SIZE } from './pages.ts';
import { DEADLINES, Requests } from './requests.ts';

/** Where the snapshots of a cluster are. */
export interface ContainerPlace {
  /** URL of the blob service, without a slash at the end. */
  readonly endpoint: string;
  readonly container: string;
  /** Undefined for every prefix in the container. */
  readonly prefix: string | undefined;
}

/** What a container holds under one prefix. */
export interface Contents {
  readonly prefix: string;
  /** An inventory, the newest first. */
  readonly blobs: readonly StoredBlob[];
  readonly drills: readonly DrillNote[];
  /** Of all blobs but the events. */
  readonly bytes: number;
}

/** Whether blobs of a container can be changed or deleted; null where the identity cannot see this. */
export type Immutability = { readonly policy: boolean; readonly legalHold: boolean } | null;

/** Containers of an account that cannot be reached, until no further one is tried: each takes minutes. */
const ENOUGH = 3;

/** Milliseconds before the end of a token: a new one is requested then. */
const EXPIRING_MS = 5 * 60_000;

/** An account, and how many of its containers could not be reached, one after the other. */
interface Account {
  readonly service: BlobServiceClient;
  failures: number;
  failure?: StorageError;
}

/** Reads many containers, of one account or several, with one credential. Changes nothing. */
export class ContainerReader {
  readonly #access: StorageConfig;
  readonly #credential: SdkCredential;
  readonly #signal: AbortSignal;
  readonly #log: Log;
  readonly #signatures: Signatures | undefined;
  readonly #accounts = new Map<string, Account>();

  private constructor(
    access: StorageConfig,
    credential: SdkCredential,
    signal: AbortSignal,
    log: Log,
    signatures: Signatures | undefined,
  ) {
    this.#access = access;
    this.#credential = credential;
    this.#signal = signal;
    this.#log = log;
    this.#signatures = signatures;
  }

  /** Makes no request yet. @param signatures undefined where no keys are in use @throws UsageError */
  static async open(
    access: StorageConfig,
    signal: AbortSignal,
    log: Log,
    signatures?: Signatures,
  ): Promise<ContainerReader> {
    return new ContainerReader(
      access,
      sharing(await sdkCredential(access.credential, access.place)),
      signal,
      log,
      signatures,
    );
  }

  /** Names of the containers of the configured account, but for those of the service itself. @throws StorageError */
  async containerNames(): Promise<string[]> {
    const { service } = this.#accountAt(this.#access.endpoint);
    const requests = this.#requestsTo(service, '');
    const names: string[] = [];
    const markers = new Set<string>();
    for (let marker = ''; !markers.has(marker);) {
      markers.add(marker);
      const page = await requests.send('listing the containers', async (abortSignal) =>
        containerPage(service, marker, abortSignal),
      );
      names.push(...(page?.containerItems ?? []).map(({ name }) => name));
      marker = page?.continuationToken ?? '';
    }
    return names.filter((name) => TYPES.container.pattern.test(name));
  }

  /**
   * Reads a container in one listing. Without a prefix it is divided by the prefixes under which there are snapshots; everything
   * else is under the empty one.
   * @throws StorageError
   */
  async read({ endpoint, container, prefix }: ContainerPlace, now: Date): Promise<Contents[]> {
    return this.#reach(endpoint, container, async (client, requests) => {
      const parts =
        prefix === undefined
          ? joinUnused(await listEveryPrefix(client, requests, this.#signatures))
          : [[prefix, await listContainer(client, prefix, requests, this.#signatures)] as const];
      const areSignaturesRequired = this.#signatures?.areRequired === true;
      return parts.map(([each, listing]) => ({
        prefix: each,
        blobs: inventoryOf(listing, { prefix: each, areSignaturesRequired, isSecondPlace: false }).blobs,
        drills: drillsOf(listing.events, now),
        bytes: listing.blobs.reduce((sum, { size }) => sum + size, 0),
      }));
    });
  }

  /** Null where this cannot be read: not every identity that can list the blobs can see it. @throws the abort's reason */
  async immutability({ endpoint, container }: ContainerPlace): Promise<Immutability> {
    return this.#reach(endpoint, container, async (client, requests) => {
      try {
        const { hasImmutabilityPolicy = false, hasLegalHold = false } = await requests.send(
          'reading the properties of the container',
          (abortSignal) => client.getProperties({ abortSignal }),
        );
        return { policy: hasImmutabilityPolicy, legalHold: hasLegalHold };
      } catch (error) {
        if (!(error instanceof StorageError) || this.#signal.aborted) throw error;
        return null;
      }
    });
  }

  /** The client and the requests for a container, unless its account is known to be out of reach. @throws StorageError */
  async #reach<T>(
    endpoint: string,
    container: string,
    work: (client: ContainerClient, requests: Requests) => Promise<T>,
  ): Promise<T> {
    const account = this.#accountAt(endpoint);
    const { service, failure } = account;
    if (failure !== undefined && account.failures >= ENOUGH) throw failure;
    try {
      const result = await work(service.getContainerClient(container), this.#requestsTo(service, container));
      account.failures = 0;
      return result;
    } catch (error) {
      if (error instanceof StorageError && isUnreachable(error) && !this.#signal.aborted) {
        account.failures += 1;
        account.failure = error;
      } else account.failures = 0;
      throw error;
    }
  }

  #requestsTo({ url, accountName: account }: BlobServiceClient, container: string): Requests {
    const { place, source } = this.#access;
    const endpoint = { place, host: new URL(url).host, account, container, source };
    return new Requests(endpoint, this.#signal, this.#log, DEADLINES);
  }

  #accountAt(endpoint: string): Account {
    const { credential } = this.#access;
    const known = this.#accounts.get(endpoint);
    const account = known ?? { service: openService({ credential, endpoint }, this.#credential), failures: 0 };
    this.#accounts.set(endpoint, account);
    return account;
  }
}

async function containerPage(
  service: BlobServiceClient,
  marker: string,
  abortSignal: AbortSignal,
): Promise<ServiceListContainersSegmentResponse | undefined> {
  const pages = service.listContainers({ abortSignal }).byPage({
    maxPageSize: PAGE_SIZE,
    ...(marker === '' ? {} : { continuationToken: marker }),
  });
  return (await pages.next()).value;
}

/** Whether nobody answered, or somebody other than Azure. */
function isUnreachable({ code }: StorageError): boolean {
  return BROKEN.test(code) || UNTRUSTED.test(code) || code === 'TryTimeout';
}

/** Parts without a snapshot are not those of a cluster: what they hold belongs to the container as a whole. */
function joinUnused(parts: ReadonlyMap<string, Listing>): [prefix: string, listing: Listing][] {
  const rest = [...parts].filter((part) => !isUsed(part)).map(([, listing]) => listing);
  const whole = {
    blobs: rest.flatMap(({ blobs }) => blobs),
    events: rest.flatMap(({ events }) => events),
    time: rest[0]?.time,
  };
  const used = [...parts].filter(isUsed);
  return used.length > 0 && whole.blobs.every(({ problem, takenAt }) => (problem ?? takenAt) === undefined)
    ? used
    : [['', whole], ...used];
}

function isUsed([prefix, { blobs }]: readonly [string, Listing]): boolean {
  return prefix !== '' && blobs.some(({ record }) => record !== undefined);
}

/** One token for all accounts: the client of each account would request its own. */
function sharing(credential: SdkCredential): SdkCredential {
  if (credential === undefined || !('getToken' in credential)) return credential;
  let token: Awaited<ReturnType<typeof credential.getToken>> = null;
  return {
    async getToken(scopes, options) {
      if (token === null || token.expiresOnTimestamp - Date.now() < EXPIRING_MS) {
        token = await credential.getToken(scopes, options);
      }
      return token;
    },
  };
}
