// Answers prompts, one a line of standard input, whatever breaks meanwhile: build/engine MODEL.
package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/url"
	"os"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	poolservice "github.com/pool-service/pool-service/clients/go"
)

func main() {
	ctx, prompts := context.Background(), bufio.NewScanner(os.Stdin)
	hold := must(poolservice.ConnectOrStart(ctx)).Hold(ctx, os.Args[1])
	for prompts.Scan() {
		messages := []openai.ChatCompletionMessageParamUnion{openai.UserMessage(prompts.Text())}
		server := must(hold.Ready(ctx))
		for again := true; again; {
			api := openai.NewClient(option.WithBaseURL(server.BaseURL()), option.WithAPIKey(string(server.APIKey)))
			request := openai.ChatCompletionNewParams{Model: server.ServedModelName, Messages: messages}
			stream := api.Chat.Completions.NewStreaming(ctx, request)
			var answer openai.ChatCompletionAccumulator
			for stream.Next() && answer.AddChunk(stream.Current()) {
			}
			// A url.Error: the connection was refused, or broke before the answer began.
			if _, again = errors.AsType[*url.Error](stream.Err()); again {
				server = must(hold.ReadyAfter(ctx, server))
			} else if len(answer.Choices) == 1 && answer.Choices[0].FinishReason != "" {
				fmt.Println("done", answer.Choices[0].Message.Content)
			} else {
				fmt.Println("lost", cmp.Or(stream.Err(), io.ErrUnexpectedEOF))
			}
		}
	}
	must(0, prompts.Err())
}

// must returns the value, unless there is an error, with which the program ends.
func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}
