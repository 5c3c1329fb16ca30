package main

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"swarmfs/cmd/swarmfs/internal/api"
)

// The keys of "status --json" are an interface: each is in the manual.
func TestTheManualNamesEveryKeyOfTheStatus(t *testing.T) {
	text, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	_, manual, _ := strings.Cut(string(text), "### status")
	manual, _, _ = strings.Cut(manual, "### add, rm")
	seen := 0
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Pointer, reflect.Slice:
			walk(typ.Elem())
		case reflect.Struct:
			for i := range typ.NumField() {
				f := typ.Field(i)
				key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
				if key == "" {
					continue // not ours: a time
				}
				if seen++; !strings.Contains(manual, "`"+key+"`") {
					t.Errorf("docs/cli.md says nothing of %s in %s", key, typ)
				}
				walk(f.Type)
			}
		}
	}
	walk(reflect.TypeFor[api.Status]())
	if seen < 60 {
		t.Errorf("only %d keys were found", seen)
	}
}
