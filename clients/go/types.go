package poolservice

import (
	"time"

	pb "github.com/pool-service/pool-service/clients/go/poolservicev1"
)

// Server is one supervised server and what is known of it. Model and Generation together are
// its key.
//
// A zero time and a nil pointer are what the service did not say. What a Server points to is
// shared: not to be changed.
type Server struct {
	// Model is the caller's name for the model; empty for an orphan.
	Model string
	// RuntimeModel is what the runtime is asked to load.
	RuntimeModel string
	// State is what it is doing.
	State ServerState
	// Generation counts the processes of this model, from 1. Of a server that waits to start,
	// that of the process which is to be started; of an orphan, its process id.
	Generation uint64
	// Role is what it is to its model.
	Role ServerRole
	// Endpoint is its base URL; empty unless READY.
	Endpoint string
	// ServedModelName is what the model field of an inference request must say; empty unless
	// READY.
	ServedModelName string
	// PID is its process; 0 without one.
	PID uint32
	// CreateTime is when this generation was asked for.
	CreateTime time.Time
	// StartTime is when its process was started.
	StartTime time.Time
	// ReadyTime is when it became READY.
	ReadyTime time.Time
	// LastUseTime is the last use that is known of.
	LastUseTime time.Time
	// ExpireTime is when it goes if it stays unused. Zero: never, or not in this state.
	ExpireTime time.Time
	// Detail says why it is in this state; empty where there is nothing to add.
	Detail string
	// LastExit is how the last process of this model ended, if one did.
	LastExit *Exit
	// LogPath is the file, on the service's machine, that holds what its process wrote.
	LogPath string
	// QueuePosition is its place among those that wait for their turn, from 1; 0 if it does
	// not wait.
	QueuePosition uint32
	// Progress is how far its download or its load is, from 0 to 1; nil while not known.
	Progress *float64
	// ExpectedBytes is what it is expected to need of memory at most; 0 while not known.
	ExpectedBytes uint64
	// ExpectedBy is how that is known.
	ExpectedBy Expectation
	// FootprintBytes is what it takes of memory; 0 before the first look.
	FootprintBytes uint64
	// PeakBytes is the most that it took of memory at any look.
	PeakBytes uint64
	// Holds is how many holds are open for it.
	Holds uint32
	// Pinned: the configuration lets it go neither when unused nor for others' room.
	Pinned bool
	// Outdated: it runs as the configuration no longer says, and goes when next unused.
	Outdated bool
	// Message is what came, with the fields of a newer service that are not known here.
	Message *pb.Server
}

// Exit is how a process ended.
type Exit struct {
	// Generation is which process it was.
	Generation uint64
	// Code is its exit code; nil if a signal ended it or it is not known.
	Code *int32
	// Signal is what ended it; nil if none did or it is not known.
	Signal *int32
	// Cause is who wanted it to end.
	Cause ExitCause
	// Message says what happened, in words.
	Message string
	// LastLines are the last lines that it wrote, oldest first.
	LastLines []string
	// Time is when it ended.
	Time time.Time
}

// Ensured is the result of Client.Ensure.
type Ensured struct {
	// Server is READY.
	Server Server
	// Started tells whether this call was the one that started it.
	Started bool
}

// EvictedServer is a server that was stopped.
type EvictedServer struct {
	// Server is its last state, with the end of its process in LastExit.
	Server Server
	// Killed tells whether it had to be killed: work in flight was lost.
	Killed bool
}

// Page is some servers in the order of their models, as they were at Revision.
type Page struct {
	// Servers of the page.
	Servers []Server
	// Revision is the change that the page is the state after: WatchAfter resumes from it.
	Revision uint64
	// Totals are of the whole pool, whatever the page.
	Totals Totals
	// Notices are what the service cannot do at present, in words; empty if all is well.
	Notices []string
}

// Totals are counts over the whole pool, and its memory.
type Totals struct {
	// Servers in any state.
	Servers uint32
	// Queued, Starting, Ready, Stopping, Failed and BackingOff are the servers in each state.
	Queued, Starting, Ready, Stopping, Failed, BackingOff uint32
	// WaitingCalls is how many calls of Ensure wait now.
	WaitingCalls uint32
	// MemoryBudgetBytes is what all servers together may need; nil if there is no limit.
	MemoryBudgetBytes *uint64
	// MemoryReservedBytes is what the servers with a process are expected to need.
	MemoryReservedBytes uint64
	// MemoryAvailableBytes is what the machine could give now; 0 before the first look.
	MemoryAvailableBytes uint64
	// MemoryTotalBytes is what the machine (or the container) has; 0 before the first look.
	MemoryTotalBytes uint64
	// MemoryPressured: nothing is started, since the machine is short of memory.
	MemoryPressured bool
	// Standbys have imported all that a server needs, and wait to become one.
	Standbys int
}

// Event is one event of a watch.
type Event struct {
	// Kind is what it tells.
	Kind EventKind
	// Revision is that of the change. Among the present servers, which are no changes, that
	// of the state.
	Revision uint64
	// Server is what it is about; the zero value when Kind is EventSynced.
	Server Server
}

// Model is one model of the service's catalogue, or one that was found.
type Model struct {
	// Model is its name, the key of the pool.
	Model string
	// Aliases are other names that mean it.
	Aliases []string
	// RuntimeModel is what the runtime is asked to load.
	RuntimeModel string
	// Runtime is the name of the runtime that serves it; empty for the default one.
	Runtime string
	// Groups are those that it counts for.
	Groups []string
	// Pinned: it goes neither when unused nor for others' room.
	Pinned bool
	// Preload: it is started with the service.
	Preload bool
	// ExpectedBytes is what its server is expected to need of memory at most; 0 while not
	// known.
	ExpectedBytes uint64
	// ExpectedBy is how that is known.
	ExpectedBy Expectation
	// OnDisk is whether all that it needs is on the service's machine; nil where that cannot
	// be told.
	OnDisk *bool
	// Problem says why it could not be started; empty if it could.
	Problem string
	// DiskBytes is what its weights take on the service's machine, parts of a download
	// included; 0 where that is not known.
	DiskBytes uint64
	// State is that of its server; StateUnspecified if it has none.
	State ServerState
	// Listed: the configuration lists it.
	Listed bool
	// Message is what came, with the fields of a newer service that are not known here.
	Message *pb.Model
}

// Progress is how far a download is.
type Progress struct {
	// DoneBytes are there.
	DoneBytes uint64
	// TotalBytes will be there; 0 while not known.
	TotalBytes uint64
}

// Reloaded is what a reload changed, as the names of models that have a server.
type Reloaded struct {
	// Replaced start anew when they are next unused.
	Replaced []string
	// Updated go on with other limits.
	Updated []string
	// Removed end when they are next unused.
	Removed []string
	// RestartNeeded are keys of the configuration that only a restart applies.
	RestartNeeded []string
	// Problems keep listed models from starting, each with its key and what to do.
	Problems []string
}
