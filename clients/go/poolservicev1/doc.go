// Package poolservicev1 is the pool service's protocol, generated from
// proto/pool_service/v1/pool_service.proto. Package poolservice is what to call it with.
package poolservicev1
