// Asks a model by OpenAI's library for Go, as its standard input says.
//
//	program BASE_URL
//
// See ../program.py for the questions and what it prints.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

type question struct {
	Model      string `json:"model"`
	Stream     bool   `json:"stream"`
	Tokens     int64  `json:"tokens"`
	Characters int    `json:"characters"`
	Image      string `json:"image"`
	Audio      bool   `json:"audio"`
	StopAfter  int    `json:"stop_after"`
}

func (asked question) request() openai.ChatCompletionNewParams {
	text := strings.Repeat("x", max(asked.Characters, 5))
	message := openai.UserMessage(text)
	if asked.Image != "" {
		image := openai.ChatCompletionContentPartImageImageURLParam{URL: asked.Image}
		message = openai.UserMessage([]openai.ChatCompletionContentPartUnionParam{
			openai.TextContentPart(text), openai.ImageContentPart(image),
		})
	}
	return openai.ChatCompletionNewParams{
		Model:     asked.Model,
		MaxTokens: openai.Int(asked.Tokens),
		Messages:  []openai.ChatCompletionMessageParamUnion{message},
	}
}

func say(event, text string) {
	line, err := json.Marshal(map[string]string{"event": event, "text": text})
	if err != nil {
		panic(err)
	}
	fmt.Println(string(line))
}

func streamed(client openai.Client, asked question) (string, error) {
	ctx, leave := context.WithCancel(context.Background())
	defer leave()
	stream := client.Chat.Completions.NewStreaming(ctx, asked.request())
	defer stream.Close()
	text, pieces := "", 0
	for stream.Next() {
		choices := stream.Current().Choices
		if len(choices) == 0 || choices[0].Delta.Content == "" {
			continue
		}
		text += choices[0].Delta.Content
		pieces++
		if pieces == 1 {
			say("piece", "")
		}
		if pieces == asked.StopAfter {
			return text, nil
		}
	}
	return text, stream.Err()
}

func spoken(client openai.Client, asked question) (string, error) {
	ctx := context.Background()
	sound, err := client.Audio.Speech.New(ctx, openai.AudioSpeechNewParams{
		Model: asked.Model,
		Voice: openai.AudioSpeechNewParamsVoiceUnion{OfString: openai.String("a")},
		Input: "hello",
	})
	if err != nil {
		return "", err
	}
	defer sound.Body.Close()
	data, err := io.ReadAll(sound.Body)
	if err != nil {
		return "", err
	}
	written, err := client.Audio.Transcriptions.New(ctx, openai.AudioTranscriptionNewParams{
		Model: asked.Model,
		File:  openai.File(bytes.NewReader(data), "a.wav", "audio/wav"),
	})
	if err != nil {
		return "", err
	}
	return written.Text, nil
}

func answered(client openai.Client, asked question) (string, error) {
	if asked.Audio {
		return spoken(client, asked)
	}
	if asked.Stream {
		return streamed(client, asked)
	}
	answer, err := client.Chat.Completions.New(context.Background(), asked.request())
	if err != nil {
		return "", err
	}
	if len(answer.Choices) == 0 {
		return "", errors.New("no choices")
	}
	say("piece", "")
	return answer.Choices[0].Message.Content, nil
}

func main() {
	client := openai.NewClient(option.WithBaseURL(os.Args[1]+"/v1"), option.WithAPIKey("none"))
	say("ready", "")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var asked question
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			panic(err)
		}
		text, err := answered(client, asked)
		if err != nil {
			say("error", err.Error())
			continue
		}
		say("end", text[:min(len(text), 100)])
	}
}
