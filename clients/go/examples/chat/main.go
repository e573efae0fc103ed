// Holds a model and streams its answer to a prompt: build/chat MODEL PROMPT.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	poolservice "github.com/pool-service/pool-service/clients/go"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: chat MODEL PROMPT")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := chat(ctx, os.Args[1], os.Args[2])
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

func chat(ctx context.Context, model, prompt string) error {
	pool, err := poolservice.Connect("")
	if err != nil {
		return err
	}
	defer pool.Close()
	hold := pool.Hold(ctx, model, poolservice.WithHolder("the chat example"))
	defer hold.Close()
	server, err := hold.Ready(ctx)
	if err != nil {
		return err
	}
	return complete(ctx, server, prompt)
}

// complete prints the answer as it comes.
func complete(ctx context.Context, server poolservice.Server, prompt string) error {
	client := openai.NewClient(
		option.WithBaseURL(server.BaseURL()),
		option.WithAPIKey(string(server.APIKey)),
	)
	stream := client.Chat.Completions.NewStreaming(ctx, openai.ChatCompletionNewParams{
		Model:    server.ServedModelName,
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(prompt)},
	})
	defer stream.Close()
	for stream.Next() {
		for _, choice := range stream.Current().Choices {
			fmt.Print(choice.Delta.Content)
		}
	}
	fmt.Println()
	return stream.Err()
}
