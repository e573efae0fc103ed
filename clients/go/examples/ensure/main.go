// Makes a model ready and prints the endpoint of its server: build/example MODEL.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	poolservice "github.com/pool-service/pool-service/clients/go"
)

func endpointOf(ctx context.Context, model string) (string, error) {
	pool, err := poolservice.ConnectOrStart(ctx) // POOL_SERVICE_ADDRESS, else your own service
	if err != nil {
		return "", err
	}
	defer pool.Close()
	ensured, err := pool.Ensure(ctx, model)
	return ensured.Server.Endpoint, err
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: example MODEL")
	}
	endpoint, err := endpointOf(context.Background(), os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(endpoint)
}
