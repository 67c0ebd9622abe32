import type { CredentialSource } from '../azure/source.ts';

/** Where the requests go, for the sentences. */
export interface Place {
  readonly host: string;
  readonly account: string;
  readonly container: string;
  readonly source: CredentialSource;
  /** The source's name, such as `account key`. */
  readonly credential: string;
}

/** What is known of a request that failed for good. */
export interface Failure {
  readonly place: Place;
  /** Completes "failed while …". */
  readonly doing: string;
  /** Azure's, Entra's, the network's. */
  readonly code: string;
  /** What the service, the SDK or the network said. */
  readonly text: string;
  /** The host that was asked: the store's, or that of the token endpoint. */
  readonly host: string;
  /** Whole minutes between the clock of this host and the service's; 0 where that did not tell its time. */
  readonly minutesOff: number;
  /** Milliseconds that the service asked us to wait, if it did. */
  readonly waitMs: number | undefined;
}

/** What failed and why, and what to do. */
export type Sentence = readonly [message: string, hint: string];
