// kstatus prints how Flux and Helm read an object: the library that both wait with, on the JSON of one object.
package main

import (
	"fmt"
	"io"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

func main() {
	object := &unstructured.Unstructured{}
	body, err := io.ReadAll(os.Stdin)
	if err != nil {
		panic(err)
	}
	if err := object.UnmarshalJSON(body); err != nil {
		panic(err)
	}
	result, err := status.Compute(object)
	if err != nil {
		panic(err)
	}
	fmt.Println(result.Status, result.Message)
}
