/**
 * The client of the pool service: ask for a model, get the endpoint of a server that
 * answers, and talk to that endpoint directly.
 */

export { ADDRESS_VARIABLE } from "./address.js";
export { PoolClient, Watch } from "./client.js";
export type { LogRange, ModelOptions } from "./convert.js";
export { DEFAULT_ADDRESS } from "./default_address.js";
export {
  RUN_ORIGINS,
  type Choice,
  type Decision,
  type Description,
  type DescriptionMessage,
  type EvictionCandidate,
  type Holder,
  type Run,
  type RunOrigin,
  type Setting,
  type WaitingCall,
} from "./description.js";
export * from "./errors.js";
export type { Process } from "./held.js";
export { Hold, type ReadyOptions } from "./hold.js";
export { openAIOptions, type OpenAIOptions } from "./openai.js";
export type {
  CallOptions,
  ConnectOptions,
  ConnectOrStartOptions,
  EnsureOptions,
  EvictOptions,
  GetOptions,
  HoldOptions,
  LogOptions,
  ModelsOptions,
  PageOptions,
  PullOptions,
  WatchOptions,
} from "./options.js";
export type { OnProgress } from "./progress.js";
export { DEFAULT_RETRY, type RetryPolicy } from "./retry.js";
export { PROGRAM_VARIABLE, type StartOptions } from "./start.js";
export { PoolStream } from "./stream.js";
export {
  CA_VARIABLE,
  CERT_VARIABLE,
  KEY_VARIABLE,
  SERVER_NAME_VARIABLE,
  type TlsOptions,
} from "./tls.js";
export { TOKEN_FILE_VARIABLE, TOKEN_VARIABLE, type TokenOptions } from "./token.js";
export {
  EXIT_CAUSES,
  EXPECTATIONS,
  SERVER_ROLES,
  SERVER_STATES,
  type EnsureResult,
  type Event,
  type EvictedServer,
  type Exit,
  type ExitCause,
  type Expectation,
  type Found,
  type LogPart,
  type Model,
  type ModelMessage,
  type Page,
  type PageMessage,
  type Progress,
  type PromptCache,
  type Pinned,
  type Reloaded,
  type Server,
  type ServerMessage,
  type ServerRole,
  type ServerState,
  type Totals,
} from "./types.js";
export { VERSION } from "./version.js";
