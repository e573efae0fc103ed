package poolservice

import (
	"fmt"
	"io"
	"log/slog"
	"time"

	pb "github.com/pool-service/pool-service/clients/go/poolservicev1"
)

// Server is one supervised server. Model and Generation together are its key.
//
// A zero time or a nil pointer means that the service sent no value. The values that a Server
// points to are shared: do not change them.
type Server struct {
	// Model is the caller's name for the model; empty for an orphan.
	Model string
	// RuntimeModel is what the runtime is asked to load.
	RuntimeModel string
	// State is the server's state.
	State ServerState
	// Generation counts the processes of this model, from 1. For a server that waits to start it
	// is the number of the next process; for an orphan, its process id.
	Generation uint64
	// Role is what it is to its model.
	Role ServerRole
	// Endpoint is its base URL; empty unless READY.
	Endpoint string
	// ServedModelName is the name that the model field of an inference request must have; empty
	// unless READY.
	ServedModelName string
	// EmbeddingModelName is the name that the model field of an embeddings request must have, if the
	// server serves a second model for embeddings; empty if it does not, or is not READY.
	EmbeddingModelName string
	// PID is its process id; 0 without a process.
	PID uint32
	// CreateTime is when this generation was requested.
	CreateTime time.Time
	// StartTime is when its process was started.
	StartTime time.Time
	// ReadyTime is when it became READY.
	ReadyTime time.Time
	// LastUseTime is the last known use.
	LastUseTime time.Time
	// ExpireTime is when it will be evicted if it stays unused. Zero: never, or not in this
	// state.
	ExpireTime time.Time
	// ExpectedReadyTime is when it is expected to be READY, while it loads; zero if unknown.
	ExpectedReadyTime time.Time
	// Detail says why it is in this state; empty if there is nothing to add.
	Detail string
	// LastExit is how the last process of this model ended, if one did.
	LastExit *Exit
	// LogPath is its log file, on the service's machine.
	LogPath string
	// QueuePosition is its place in the queue, from 1; 0 if it does not wait.
	QueuePosition uint32
	// Progress is the progress of its download or load, from 0 to 1; nil if unknown.
	Progress *float64
	// ExpectedBytes is the memory that it is expected to need at most; 0 if unknown.
	ExpectedBytes uint64
	// ExpectedBy is the source of ExpectedBytes.
	ExpectedBy Expectation
	// FootprintBytes is the memory that it takes; 0 before the first memory sample.
	FootprintBytes uint64
	// PeakBytes is the most memory that it took at any memory sample.
	PeakBytes uint64
	// Holds is the number of its open holds.
	Holds uint32
	// Pinned: it is stopped neither for being unused nor for other models.
	Pinned bool
	// Outdated: its settings are no longer those of the configuration; it is stopped when next
	// unused.
	Outdated bool
	// PromptCache is what it keeps of its computed prompts; nil: nothing.
	PromptCache *PromptCache
	// Host is the member of a fleet whose server it is; empty outside a fleet.
	Host string
	// APIKey is the key that requests to Endpoint show, as "Authorization: Bearer KEY"; empty if it
	// asks for none, and in what List, Watch and others return: only Ensure and Hold return it.
	APIKey Secret `json:"-"`
	// Message is the received message, with fields of a newer service that this package does not
	// know.
	Message *pb.Server
}

// BaseURL returns the base URL of the server's OpenAI API, as libraries for that API expect it:
// Endpoint with "/v1". Empty if there is no endpoint.
func (s Server) BaseURL() string {
	if s.Endpoint == "" {
		return ""
	}
	return s.Endpoint + "/v1"
}

// Secret is a text that no formatting verb, log or JSON shows; string(secret) is the text itself.
type Secret string

// Format writes stars in place of a text that is not empty, whatever the verb.
func (s Secret) Format(state fmt.State, _ rune) {
	_, _ = io.WriteString(state, s.stars())
}

// LogValue returns stars in place of a text that is not empty.
func (s Secret) LogValue() slog.Value {
	return slog.StringValue(s.stars())
}

// MarshalText returns stars in place of a text that is not empty.
func (s Secret) MarshalText() ([]byte, error) {
	return []byte(s.stars()), nil
}

func (s Secret) stars() string {
	if s == "" {
		return ""
	}
	return "***"
}

// PromptCache is the computed prompts that a server keeps for the next server of its model.
type PromptCache struct {
	// DiskBytes is what was on disk when the server was started.
	DiskBytes uint64
	// Tokens is how many tokens the prompts had that were there.
	Tokens uint64
	// ReusedTokens is how many tokens of prompts the server did not have to compute, by its last
	// probe.
	ReusedTokens uint64
	// MaxBytes is what its prompts may take, on disk and in its memory.
	MaxBytes uint64
}

// Exit is how a process ended.
type Exit struct {
	// Generation is the generation of the process.
	Generation uint64
	// Code is its exit code; nil if a signal ended it, or if unknown.
	Code *int32
	// Signal is the signal that ended it; nil if none did, or if unknown.
	Signal *int32
	// Cause is why it ended.
	Cause ExitCause
	// Message says what happened, in words.
	Message string
	// LastLines are the last lines that it wrote, oldest first.
	LastLines []string
	// Time is when it ended.
	Time time.Time
}

// Found is the result of Client.Get.
type Found struct {
	// Server is the model's server as it is now; nil if it has none.
	Server *Server
	// Answers reports, with WithCheck, that this very process has answered that it is healthy, after
	// the call came. False also if it is too busy to answer in time, or is not READY.
	Answers bool
}

// Ensured is the result of Client.Ensure.
type Ensured struct {
	// Server is the READY server.
	Server Server
	// Started reports whether this call started it.
	Started bool
}

// EvictedServer is a server that was stopped.
type EvictedServer struct {
	// Server is its last state, with the end of its process in LastExit.
	Server Server
	// Killed reports whether it had to be killed; its requests in flight were lost.
	Killed bool
}

// Page has some servers in the order of their models, as they were at Revision.
type Page struct {
	// Servers of the page.
	Servers []Server
	// Revision is that of the last change that the page includes: WatchAfter resumes after it.
	Revision uint64
	// Totals are those of the whole pool, on every page.
	Totals Totals
	// Notices say what the service cannot do at present, in words; empty if all is well.
	Notices []string
}

// Totals are counts over the whole pool, and its memory.
type Totals struct {
	// Servers in any state.
	Servers uint32
	// Queued, Starting, Ready, Stopping, Failed and BackingOff are the servers in each state.
	Queued, Starting, Ready, Stopping, Failed, BackingOff uint32
	// WaitingCalls is the number of calls of Ensure and Hold that wait now.
	WaitingCalls uint32
	// MemoryBudgetBytes is the memory that all servers together may need; nil if there is no
	// limit.
	MemoryBudgetBytes *uint64
	// MemoryReservedBytes is the memory that the servers with a process are expected to need.
	MemoryReservedBytes uint64
	// MemoryAvailableBytes is the available memory of the machine; 0 before the first memory
	// sample.
	MemoryAvailableBytes uint64
	// MemoryTotalBytes is the memory of the machine (or the container); 0 before the first memory
	// sample.
	MemoryTotalBytes uint64
	// MemoryPressured: the machine is short of memory; unused servers are evicted first, and a
	// start may wait.
	MemoryPressured bool
	// Standbys is the number of processes that have imported all that a server needs and wait to
	// become one.
	Standbys int
}

// Event is one event of a watch.
type Event struct {
	// Kind is the kind of the event.
	Kind EventKind
	// Revision is that of the change; before EventSynced, that of the present state.
	Revision uint64
	// Server is the server that changed; the zero value if Kind is EventSynced.
	Server Server
}

// Model is a model of the service's catalogue, or one that WithFound added.
type Model struct {
	// Model is its name, the key of the pool.
	Model string
	// Aliases are other names that mean it.
	Aliases []string
	// RuntimeModel is what the runtime is asked to load.
	RuntimeModel string
	// Runtime is the name of the runtime that serves it; empty for the default one.
	Runtime string
	// Groups are the groups that it belongs to.
	Groups []string
	// Pinned: it is stopped neither for being unused nor for other models.
	Pinned bool
	// Preload: it is started with the service.
	Preload bool
	// ExpectedBytes is the memory that its server is expected to need at most; 0 if unknown.
	ExpectedBytes uint64
	// ExpectedBy is the source of ExpectedBytes.
	ExpectedBy Expectation
	// OnDisk is whether all files that it needs are on the service's machine; nil if unknown.
	OnDisk *bool
	// Problem says why it could not be started; empty if it could.
	Problem string
	// DiskBytes is the size of its weights on the service's machine, parts of a download
	// included; 0 if unknown.
	DiskBytes uint64
	// State is the state of its server; StateUnspecified if it has none.
	State ServerState
	// Listed: the configuration lists it.
	Listed bool
	// Message is the received message, with fields of a newer service that this package does not
	// know.
	Message *pb.Model
}

// Progress is the progress of a download.
type Progress struct {
	// DoneBytes is how many bytes are there.
	DoneBytes uint64
	// TotalBytes is how many bytes there will be; 0 while unknown.
	TotalBytes uint64
}

// Pinned says whether a model is pinned.
type Pinned struct {
	// Pinned: it is pinned now.
	Pinned bool
	// Changed: that was otherwise before the call.
	Changed bool
	// Configured: the configuration pins it.
	Configured bool
}

// LogPart has some lines of one process, or its end.
type LogPart struct {
	// Generation is that of the process.
	Generation uint64
	// Lines are the lines, oldest first, safe to show in a terminal.
	Lines []string
	// MissedBytes counts what was removed before these lines, before it could be read.
	MissedBytes uint64
	// Ended says that the process has ended, and that its last line was read.
	Ended bool
	// Exit says how the process ended; nil if it has not, or if that is not known.
	Exit *Exit
	// Cursor resumes after this part: see WithCursor.
	Cursor string
}

// Reloaded has the changes of a reload, as names of models that have a server.
type Reloaded struct {
	// Replaced are replaced when they are next unused.
	Replaced []string
	// Updated go on with other limits.
	Updated []string
	// Removed end when they are next unused.
	Removed []string
	// RestartNeeded are keys of the configuration that only a restart applies.
	RestartNeeded []string
	// Problems say what keeps listed models from starting, each with its key and what to do.
	Problems []string
}
