// Command gitops answers what GitOps tools make of a resource: Argo CD by a Lua script, Flux by
// its kstatus library. It reads one JSON request from standard input and writes one answer.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	luajson "layeh.com/gopher-json"
)

// scriptSeconds is how long Argo CD lets a script run.
const scriptSeconds = 1

type request struct {
	// Script is empty for kstatus.
	Script  string           `json:"script"`
	Objects []map[string]any `json:"objects"`
}

// answer is about one object: what the script returned or what kstatus says, or an error.
type answer struct {
	Value any    `json:"value,omitempty"`
	Error string `json:"error,omitempty"`
}

func main() {
	var asked request
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		fmt.Fprintln(os.Stderr, "The request is not JSON:", err)
		os.Exit(2)
	}
	answers := make([]answer, 0, len(asked.Objects))
	for _, object := range asked.Objects {
		value, err := about(object, asked.Script)
		if err != nil {
			answers = append(answers, answer{Error: err.Error()})
			continue
		}
		answers = append(answers, answer{Value: value})
	}
	if err := json.NewEncoder(os.Stdout).Encode(answers); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func about(object map[string]any, script string) (any, error) {
	if script != "" {
		return run(script, object)
	}
	read, err := status.Compute(&unstructured.Unstructured{Object: whole(object).(map[string]any)})
	if err != nil {
		return nil, err
	}
	return read.Status, nil
}

// whole makes numbers without a fraction integers, as a Kubernetes client does.
func whole(value any) any {
	switch typed := value.(type) {
	case map[string]any:
		for key, member := range typed {
			typed[key] = whole(member)
		}
	case []any:
		for index, member := range typed {
			typed[index] = whole(member)
		}
	case float64:
		if typed == float64(int64(typed)) {
			return int64(typed)
		}
	}
	return value
}

// run gives a script what Argo CD gives it: `obj`, the libraries base, package and table, of os
// only time and date, and one second.
func run(script string, object map[string]any) (any, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	// The first one is what the others register with.
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{
		{lua.LoadLibName, lua.OpenPackage},
		{lua.BaseLibName, lua.OpenBase},
		{lua.TabLibName, lua.OpenTable},
		{lua.OsLibName, openClock},
	} {
		call := lua.P{Fn: state.NewFunction(library.open), Protect: true}
		if err := state.CallByParam(call, lua.LString(library.name)); err != nil {
			return nil, err
		}
	}
	limit, cancel := context.WithTimeout(context.Background(), scriptSeconds*time.Second)
	defer cancel()
	state.SetContext(limit)
	state.SetGlobal("obj", luajson.DecodeValue(state, object))
	if err := state.DoString(script); err != nil {
		return nil, err
	}
	text, err := luajson.Encode(state.Get(-1))
	if err != nil {
		return nil, err
	}
	return json.RawMessage(text), nil
}

func openClock(state *lua.LState) int {
	lua.OpenOs(state)
	library := state.GetGlobal(lua.OsLibName).(*lua.LTable)
	var others []lua.LValue
	library.ForEach(func(name, _ lua.LValue) {
		if name.String() != "time" && name.String() != "date" {
			others = append(others, name)
		}
	})
	for _, name := range others {
		library.RawSet(name, lua.LNil)
	}
	return 1
}
