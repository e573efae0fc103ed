package poolservice

import (
	"strconv"

	pb "github.com/pool-service/pool-service/clients/go/poolservicev1"
)

// ServerState is what a server is doing. A value that this package does not know keeps its
// number.
type ServerState int32

// The states of a server.
const (
	// StateUnspecified: the state of a Model without a server; no Server has it.
	StateUnspecified = ServerState(pb.ServerState_SERVER_STATE_UNSPECIFIED)
	// StateQueued: it waits in the queue to be started.
	StateQueued = ServerState(pb.ServerState_SERVER_STATE_QUEUED)
	// StateStarting: its process is being started or loads the model.
	StateStarting = ServerState(pb.ServerState_SERVER_STATE_STARTING)
	// StateReady: its endpoint answers.
	StateReady = ServerState(pb.ServerState_SERVER_STATE_READY)
	// StateStopping: it drains, or its process is being ended.
	StateStopping = ServerState(pb.ServerState_SERVER_STATE_STOPPING)
	// StateFailed: it has no process; the last one died or did not become ready.
	StateFailed = ServerState(pb.ServerState_SERVER_STATE_FAILED)
	// StateBackingOff: its process died and a caller waits; it is started again in a moment.
	StateBackingOff = ServerState(pb.ServerState_SERVER_STATE_BACKING_OFF)
)

// String is the state's name, such as "READY", or its number.
func (s ServerState) String() string {
	return enumName(int32(s), pb.ServerState_name, "SERVER_STATE_")
}

// ServerRole is what a server is to its model. A value that this package does not know keeps its
// number.
type ServerRole int32

// The roles of a server.
const (
	// RoleUnspecified is never sent.
	RoleUnspecified = ServerRole(pb.ServerRole_SERVER_ROLE_UNSPECIFIED)
	// RoleCurrent: callers of the model get this server. A model has at most one.
	RoleCurrent = ServerRole(pb.ServerRole_SERVER_ROLE_CURRENT)
	// RoleSuccessor: it starts beside the current server, and takes its place once it is READY.
	RoleSuccessor = ServerRole(pb.ServerRole_SERVER_ROLE_SUCCESSOR)
	// RoleSuperseded: it was the current server, and goes on until nothing is in flight on it.
	RoleSuperseded = ServerRole(pb.ServerRole_SERVER_ROLE_SUPERSEDED)
	// RoleOrphan: a process of an earlier service without a record; it is drained and ended.
	RoleOrphan = ServerRole(pb.ServerRole_SERVER_ROLE_ORPHAN)
)

// String is the role's name, such as "CURRENT", or its number.
func (r ServerRole) String() string {
	return enumName(int32(r), pb.ServerRole_name, "SERVER_ROLE_")
}

// ExitCause is why a process ended. A value that this package does not know keeps its number.
type ExitCause int32

// The causes of an exit.
const (
	// CauseUnspecified is never sent.
	CauseUnspecified = ExitCause(pb.ExitCause_EXIT_CAUSE_UNSPECIFIED)
	// CauseCrashed: it died by itself, whatever its exit code.
	CauseCrashed = ExitCause(pb.ExitCause_EXIT_CAUSE_CRASHED)
	// CauseEvicted: a caller evicted it.
	CauseEvicted = ExitCause(pb.ExitCause_EXIT_CAUSE_EVICTED)
	// CauseIdle: the pool stopped it; it was unused for its keep alive.
	CauseIdle = ExitCause(pb.ExitCause_EXIT_CAUSE_IDLE)
	// CauseStartTimeout: the pool stopped it; its start stood still, or took longer than
	// its start limit.
	CauseStartTimeout = ExitCause(pb.ExitCause_EXIT_CAUSE_START_TIMEOUT)
	// CauseShutdown: the operator stopped the service.
	CauseShutdown = ExitCause(pb.ExitCause_EXIT_CAUSE_SHUTDOWN)
	// CauseWedged: the pool stopped it; it was READY and no longer served.
	CauseWedged = ExitCause(pb.ExitCause_EXIT_CAUSE_WEDGED)
	// CauseOrphaned: the guard stopped it; the service was gone and no other came.
	CauseOrphaned = ExitCause(pb.ExitCause_EXIT_CAUSE_ORPHANED)
	// CausePreempted: the pool stopped it for another model; it was unused.
	CausePreempted = ExitCause(pb.ExitCause_EXIT_CAUSE_PREEMPTED)
	// CauseReloaded: the operator changed its configuration.
	CauseReloaded = ExitCause(pb.ExitCause_EXIT_CAUSE_RELOADED)
	// CauseMemoryLimit: the pool stopped it; it had grown past its memory limit.
	CauseMemoryLimit = ExitCause(pb.ExitCause_EXIT_CAUSE_MEMORY_LIMIT)
)

// String is the cause's name, such as "EVICTED", or its number.
func (c ExitCause) String() string {
	return enumName(int32(c), pb.ExitCause_name, "EXIT_CAUSE_")
}

// Expectation is the source of an expectation of memory, the most reliable first. A value that
// this package does not know keeps its number.
type Expectation int32

// The sources of an expectation.
const (
	// ExpectationUnspecified: the memory was not estimated yet.
	ExpectationUnspecified = Expectation(pb.Expectation_EXPECTATION_UNSPECIFIED)
	// ExpectationDeclared: declared in the configuration.
	ExpectationDeclared = Expectation(pb.Expectation_EXPECTATION_DECLARED)
	// ExpectationObserved: measured, now or in earlier runs.
	ExpectationObserved = Expectation(pb.Expectation_EXPECTATION_OBSERVED)
	// ExpectationWeights: estimated from the size of the weights on disk.
	ExpectationWeights = Expectation(pb.Expectation_EXPECTATION_WEIGHTS)
	// ExpectationGuess: a guess; nothing is known about the model.
	ExpectationGuess = Expectation(pb.Expectation_EXPECTATION_GUESS)
)

// String is the expectation's name, such as "OBSERVED", or its number.
func (e Expectation) String() string {
	return enumName(int32(e), pb.Expectation_name, "EXPECTATION_")
}

// EventKind is the kind of an event of a watch.
type EventKind int

// The kinds of events.
const (
	// EventChanged: the server's new state.
	EventChanged EventKind = iota + 1
	// EventRemoved: the last known state of a server that is no longer in the pool.
	EventRemoved
	// EventSynced: the present servers are complete; changes follow.
	EventSynced
)

// String is the kind's name, such as "changed", or its number.
func (k EventKind) String() string {
	switch k {
	case EventChanged:
		return "changed"
	case EventRemoved:
		return "removed"
	case EventSynced:
		return "synced"
	default:
		return strconv.Itoa(int(k))
	}
}

func enumName(number int32, names map[int32]string, prefix string) string {
	name, known := names[number]
	if !known {
		return strconv.Itoa(int(number))
	}
	return name[len(prefix):]
}
