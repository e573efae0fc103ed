package poolservice

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
)

// ConnectOption is an option of Connect and New.
type ConnectOption func(*connectSettings)

type connectSettings struct {
	retry RetryPolicy
	dial  []grpc.DialOption
}

// WithRetryPolicy sets how persistent the client is.
func WithRetryPolicy(policy RetryPolicy) ConnectOption {
	return func(s *connectSettings) { s.retry = policy }
}

// WithDialOptions adds options of the connection, such as interceptors, or in place of the
// client's own. New, which makes no connection, does not heed them.
func WithDialOptions(options ...grpc.DialOption) ConnectOption {
	return func(s *connectSettings) { s.dial = append(s.dial, options...) }
}

// settings are what a call says besides the model.
type settings struct {
	runtimeModel string
	keepAlive    *durationpb.Duration
	download     *bool
	holder       string
	force        bool
	found        bool
}

// EnsureOption is an option of Client.Ensure.
type EnsureOption interface{ forEnsure(*settings) }

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

// ModelOption is an option of every call that names what to load.
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

type holdOption func(*settings)

func (o holdOption) forHold(s *settings) { o(s) }

type modelsOption func(*settings)

func (o modelsOption) forModels(s *settings) { o(s) }

type evictOption func(*settings)

func (o evictOption) forEvict(s *settings) { o(s) }

// WithRuntimeModel says what the runtime should load, a Hugging Face id or a directory, if
// not what the service would choose.
func WithRuntimeModel(runtimeModel string) ModelOption {
	return modelOption(func(s *settings) { s.runtimeModel = runtimeModel })
}

// WithKeepAlive says how long the server stays when unused; in a hold, from the end of the
// last one. 0: it goes as soon as it is unused; negative: it stays. Without this option it
// is as it was, or as the service is configured.
func WithKeepAlive(keepAlive time.Duration) StartOption {
	return startOption(func(s *settings) { s.keepAlive = durationpb.New(keepAlive) })
}

// WithDownload says whether missing files may be downloaded, which can take long. Without
// this option it is as the service is configured.
func WithDownload(allowed bool) StartOption {
	return startOption(func(s *settings) { s.download = &allowed })
}

// WithHolder sets a label of who holds the model, told to those who want to evict it: at
// most 128 bytes.
func WithHolder(label string) HoldOption {
	return holdOption(func(s *settings) { s.holder = label })
}

// WithFound gives also the models that are not listed: those that have a server, those whose
// runtime model is remembered, and those in the service's Hugging Face cache.
func WithFound() ModelsOption {
	return modelsOption(func(s *settings) { s.found = true })
}

// WithForce evicts also what is held or has requests in flight; these still finish within
// the drain limit.
func WithForce() EvictOption {
	return evictOption(func(s *settings) { s.force = true })
}
