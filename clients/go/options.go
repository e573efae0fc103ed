package poolservice

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
)

// ConnectOption is an option of Connect and New.
type ConnectOption func(*connectSettings)

type connectSettings struct {
	retry     RetryPolicy
	dial      []grpc.DialOption
	token     *string
	tokenFile *string
	tls       tlsSettings
}

// WithRetryPolicy sets how the client retries.
func WithRetryPolicy(policy RetryPolicy) ConnectOption {
	return func(s *connectSettings) { s.retry = policy }
}

// WithDialOptions adds options of the connection, such as interceptors, or replaces the client's
// own. New ignores them, since it makes no connection.
func WithDialOptions(options ...grpc.DialOption) ConnectOption {
	return func(s *connectSettings) { s.dial = append(s.dial, options...) }
}

// WithToken sets the token that is sent with each call. New ignores it: see there.
func WithToken(token string) ConnectOption {
	return func(s *connectSettings) { s.token = &token }
}

// WithTokenFile sets the file that holds the token, for you alone to read (chmod 600); "~" is the
// home directory. The file is read again when it has changed, so that a new token is sent with the
// next call. New ignores it: see there.
func WithTokenFile(path string) ConnectOption {
	return func(s *connectSettings) { s.tokenFile = &path }
}

// WithCA sets the file with the authorities, in PEM, that are trusted to know the service; "~" is
// the home directory. New ignores it, since it makes no connection.
func WithCA(path string) ConnectOption {
	return func(s *connectSettings) { s.tls.ca = path }
}

// WithCertificate sets the files with the certificate that is shown to the service, and with its
// key, in PEM. The key is for you alone to read (chmod 600). New ignores it.
func WithCertificate(cert, key string) ConnectOption {
	return func(s *connectSettings) { s.tls.cert, s.tls.key = cert, key }
}

// WithServerName sets the name that the service's certificate must have, if that is not the host of
// the address. New ignores it.
func WithServerName(name string) ConnectOption {
	return func(s *connectSettings) { s.tls.serverName = name }
}

// ConnectOrStartOption is an option of ConnectOrStart. Each ConnectOption is one.
type ConnectOrStartOption interface{ forConnectOrStart(*startSettings) }

type startSettings struct {
	connect   connectSettings
	program   string
	arguments []string
}

func (o ConnectOption) forConnectOrStart(s *startSettings) { o(&s.connect) }

type connectOrStartOption func(*startSettings)

func (o connectOrStartOption) forConnectOrStart(s *startSettings) { o(s) }

// WithProgram sets the program that starts a service. By default it is that of
// POOL_SERVICE_PROGRAM, else pool-service on PATH.
func WithProgram(program string) ConnectOrStartOption {
	return connectOrStartOption(func(s *startSettings) { s.program = program })
}

// WithArguments adds arguments of "pool-service start", for a service that is not there yet.
func WithArguments(arguments ...string) ConnectOrStartOption {
	return connectOrStartOption(func(s *startSettings) { s.arguments = append(s.arguments, arguments...) })
}

// settings are the options of a call.
type settings struct {
	runtimeModel string
	keepAlive    *durationpb.Duration
	download     *bool
	holder       string
	force        bool
	found        bool
	check        bool
	progress     func(Server)
}

// EnsureOption is an option of Client.Ensure.
type EnsureOption interface{ forEnsure(*settings) }

// GetOption is an option of Client.Get.
type GetOption interface{ forGet(*settings) }

// HoldOption is an option of Client.Hold.
type HoldOption interface{ forHold(*settings) }

// PullOption is an option of Client.Pull.
type PullOption interface{ forPull(*settings) }

// EvictOption is an option of Client.Evict and Client.EvictAll.
type EvictOption interface{ forEvict(*settings) }

// ModelsOption is an option of Client.Models.
type ModelsOption interface{ forModels(*settings) }

// StartOption is an option of every call that may start a server.
type StartOption interface {
	EnsureOption
	HoldOption
}

// ModelOption is an option of every call that names a model to load.
type ModelOption interface {
	StartOption
	PullOption
}

type modelOption func(*settings)

func (o modelOption) forEnsure(s *settings) { o(s) }
func (o modelOption) forHold(s *settings)   { o(s) }
func (o modelOption) forPull(s *settings)   { o(s) }

type startOption func(*settings)

func (o startOption) forEnsure(s *settings) { o(s) }
func (o startOption) forHold(s *settings)   { o(s) }

type ensureOption func(*settings)

func (o ensureOption) forEnsure(s *settings) { o(s) }

type holdOption func(*settings)

func (o holdOption) forHold(s *settings) { o(s) }

type getOption func(*settings)

func (o getOption) forGet(s *settings) { o(s) }

type modelsOption func(*settings)

func (o modelsOption) forModels(s *settings) { o(s) }

type evictOption func(*settings)

func (o evictOption) forEvict(s *settings) { o(s) }

// WithRuntimeModel sets the model that the runtime loads, a Hugging Face id or a directory, if
// the service should not choose it.
func WithRuntimeModel(runtimeModel string) ModelOption {
	return modelOption(func(s *settings) { s.runtimeModel = runtimeModel })
}

// WithKeepAlive sets how long the server stays when unused; in a hold, from the end of the last
// hold. 0: it is stopped as soon as it is unused; negative: it stays. By default it is unchanged,
// or as configured.
func WithKeepAlive(keepAlive time.Duration) StartOption {
	return startOption(func(s *settings) { s.keepAlive = durationpb.New(keepAlive) })
}

// WithDownload allows or forbids to download missing files, which can take long. By default it is
// as configured.
func WithDownload(allowed bool) StartOption {
	return startOption(func(s *settings) { s.download = &allowed })
}

// WithProgress calls report while the call waits, with the server whenever that has changed: its
// place in the queue, the progress of its download or load. The client asks every 0.5 s, so a call
// that is answered sooner reports nothing. It never reports a READY server, and nothing once
// Ensure has returned. report is called by the goroutine that called Ensure; a panic of it ends the
// call.
func WithProgress(report func(Server)) EnsureOption {
	return ensureOption(func(s *settings) { s.progress = report })
}

// WithHolder sets a label of the holder, shown to callers that want to evict the model: at most
// 128 bytes.
func WithHolder(label string) HoldOption {
	return holdOption(func(s *settings) { s.holder = label })
}

// WithCheck makes the service ask a READY server whether it still serves, for at most its probe
// timeout: Found.Answers is what came of it.
func WithCheck() GetOption {
	return getOption(func(s *settings) { s.check = true })
}

// WithFound adds models that are not listed: those that have a server, whose runtime model is
// remembered, or that are in the service's Hugging Face cache.
func WithFound() ModelsOption {
	return modelsOption(func(s *settings) { s.found = true })
}

// WithForce also evicts servers that are held or have requests in flight, which still finish
// within the drain timeout.
func WithForce() EvictOption {
	return evictOption(func(s *settings) { s.force = true })
}
