// Package poolservice is the client of the pool service: ask for a model, get the
// endpoint of a server that answers, and talk to that endpoint directly.
//
//	pool, err := poolservice.Connect("") // POOL_SERVICE_ADDRESS, else your own service
//	if err != nil {
//		return err
//	}
//	defer pool.Close()
//	ensured, err := pool.Ensure(ctx, "mlx-community/Qwen3-4B-4bit")
//
// [ConnectOrStart] starts your own service, if it does not run.
//
// A request to the endpoint must name the server's ServedModelName as its model.
//
// # Contexts
//
// A context's deadline limits the whole call with its retries. Giving up, by the deadline
// or by cancelling, ends only your wait: the service goes on with what it has begun. The
// context of [Client.Hold] is the life of the hold.
//
// # Errors
//
// Every error of a call is an [*Error], with all details from the service. Act on its
// [Kind], which [errors.Is] compares:
//
//	if errors.Is(err, poolservice.ErrModelRejected) {
//
// # Retries
//
// The client retries UNAVAILABLE, also if it cannot reach the service, and errors with a
// delay from the service: until the context's deadline, or, without one, for
// [RetryPolicy].Patience after the first failure. Watches and holds use only Patience.
//
// A [Client] and a [Hold] are safe for any number of goroutines.
package poolservice
