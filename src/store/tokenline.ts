import {
  createDefaultHttpClient,
  type HttpClient,
  isRestError,
  type PipelineRequest,
  type PipelineResponse,
  RestError,
} from '@azure/core-rest-pipeline';

/**
 * Where the SDK sends its requests for one token after the other. Of a failure the SDK keeps little: a wrong tenant, a name that does not
 * resolve, a refused connection and an untrusted certificate are one text to it. So the line remembers what really came of
 * the last request. It also ends with the try that it serves, which the SDK's requests do not.
 */
export class TokenLine implements HttpClient {
  readonly #client = createDefaultHttpClient();
  #signal: PipelineRequest['abortSignal'];
  #request: PipelineRequest | undefined;
  #failure: RestError | undefined;

  /** Begins with the next token. @param signal of the try that needs it */
  serve(signal: PipelineRequest['abortSignal']): this {
    this.#signal = signal;
    this.#request = undefined;
    this.#failure = undefined;
    return this;
  }

  async sendRequest(request: PipelineRequest): Promise<PipelineResponse> {
    if (this.#signal !== undefined) request.abortSignal = this.#signal;
    // The endpoint of a managed identity is on the machine itself: no proxy can reach it, and none may see the token.
    if (request.url.startsWith('http:')) delete request.agent;
    this.#request = request;
    try {
      const response = await this.#client.sendRequest(request);
      this.#failure = response.status < 400 ? undefined : refusal(request, response);
      return response;
    } catch (error) {
      this.#failure = asRestError(error, request);
      throw error;
    }
  }

  /** What the SDK's error really means, with the request to the token endpoint, if there was one. */
  failure(error: unknown): unknown {
    return this.#failure ?? (this.#request === undefined ? error : asRestError(error, this.#request));
  }
}

function asRestError(error: unknown, request: PipelineRequest): RestError {
  if (isRestError(error)) return error;
  const [message, code] = error instanceof Error ? [error.message, error.name] : [String(error), 'unknown'];
  return new RestError(message, { code, request });
}

/** The answer as an error, whose code is Entra's number (`AADSTS7000215`) or OAuth's word (`invalid_request`). */
function refusal(request: PipelineRequest, response: PipelineResponse): RestError {
  const { error, error_description: text } = bodyOf(response);
  const description = typeof text === 'string' ? text : `status ${response.status}`;
  const code = /AADSTS\d+/.exec(description)?.[0] ?? (typeof error === 'string' ? error : String(response.status));
  return new RestError(description, { code, statusCode: response.status, request, response });
}

function bodyOf({ bodyAsText }: PipelineResponse): Readonly<Record<string, unknown>> {
  try {
    const body: unknown = JSON.parse(bodyAsText ?? '');
    return typeof body === 'object' && body !== null ? { ...body } : {};
  } catch {
    return {};
  }
}
