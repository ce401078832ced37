// healthchecks prints what those that wait for an object make of it, whose JSON it reads: without an argument kstatus, the library with
// which Flux and Helm wait; by a file with the health check expressions of a Kustomization, Flux's own library; by one with a health check
// in Lua, the interpreter that Argo CD has.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	luajson "layeh.com/gopher-json"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
	"sigs.k8s.io/yaml"
)

func main() {
	object := &unstructured.Unstructured{}
	body, err := io.ReadAll(os.Stdin)
	check(err)
	check(object.UnmarshalJSON(body))
	if len(os.Args) == 1 {
		result, err := status.Compute(object)
		check(err)
		fmt.Println(result.Status, result.Message)
		return
	}
	text, err := os.ReadFile(os.Args[1])
	check(err)
	if strings.HasSuffix(os.Args[1], ".lua") {
		fmt.Println(argocd(string(text), body))
		return
	}
	fmt.Println(flux(text, object))
}

// flux evaluates spec.healthCheckExprs of a Flux Kustomization, as its controller does.
func flux(text []byte, object *unstructured.Unstructured) string {
	var kustomization struct {
		Spec struct {
			HealthCheckExprs []kustomize.CustomHealthCheck `json:"healthCheckExprs"`
		} `json:"spec"`
	}
	check(yaml.Unmarshal(text, &kustomization))
	for _, one := range kustomization.Spec.HealthCheckExprs {
		if one.APIVersion != object.GetAPIVersion() || one.Kind != object.GetKind() {
			continue
		}
		evaluator, err := cel.NewStatusEvaluator(&one.HealthCheckExpressions)
		check(err)
		result, err := evaluator.Evaluate(context.Background(), object)
		if err != nil { // as of an object without a status: kstatus' generic reader keeps waiting
			return "Unknown"
		}
		return string(result.Status)
	}
	panic("no expression is for " + object.GetKind())
}

// argocd runs a health check of Argo CD: with Lua's base, table, string and math alone, as util/lua/lua.go does.
func argocd(script string, body []byte) string {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{
		{lua.LoadLibName, lua.OpenPackage},
		{lua.BaseLibName, lua.OpenBase},
		{lua.TabLibName, lua.OpenTable},
		{lua.StringLibName, lua.OpenString},
		{lua.MathLibName, lua.OpenMath},
	} {
		call := lua.P{Fn: state.NewFunction(library.open), NRet: 0, Protect: true}
		check(state.CallByParam(call, lua.LString(library.name)))
	}
	object, err := luajson.Decode(state, body)
	check(err)
	state.SetGlobal("obj", object)
	check(state.DoString(script))
	health := state.Get(-1).(*lua.LTable)
	return fmt.Sprintf("%s %s", health.RawGetString("status"), health.RawGetString("message"))
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
