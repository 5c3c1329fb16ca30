package engine

import (
	"reflect"
	"testing"
)

func TestSumsOfStatsLeaveNoCounterOut(t *testing.T) {
	var one, two Stats
	for i, v := 0, reflect.ValueOf(&one).Elem(); i < v.NumField(); i++ {
		v.Field(i).SetInt(int64(i + 1))
		reflect.ValueOf(&two).Elem().Field(i).SetInt(int64(100 * (i + 1)))
	}
	sum := reflect.ValueOf(one.Plus(two))
	for i := range sum.NumField() {
		if got, want := sum.Field(i).Int(), int64(101*(i+1)); got != want {
			t.Errorf("%s: got %d, want %d", sum.Type().Field(i).Name, got, want)
		}
	}
}
