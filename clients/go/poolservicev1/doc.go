// Package poolservicev1 is the pool service's protocol, generated from
// proto/pool_service/v1/pool_service.proto. Call it with package poolservice.
package poolservicev1
