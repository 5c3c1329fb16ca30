package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a daemon that answers with what it was asked.
type fake struct {
	blocked chan struct{} // closed when Status waits for its context
}

var errFake = errors.New("that did not work")

func (f *fake) Status(ctx context.Context, of Target) (*Status, error) {
	if of.Arg == "wait" {
		close(f.blocked)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return &Status{Mount: of.Path, Version: of.Arg, Torrents: []Torrent{}}, nil
}

func (f *fake) Add(_ context.Context, r AddRequest) (AddReply, error) {
	return AddReply{Name: fmt.Sprintf("%s %d %s", r.Label, len(r.Torrent), r.Magnet)}, nil
}

func (f *fake) Remove(_ context.Context, of Target) (Done, error) { return Done{Name: of.Arg}, nil }
func (f *fake) Pin(_ context.Context, of Target) (Done, error) {
	return Done{Name: of.Path, Pieces: 3}, nil
}
func (f *fake) Unpin(context.Context, Target) (Done, error) { return Done{}, errFake }
func (f *fake) Limit(_ context.Context, r LimitRequest) (Limits, error) {
	l := Limits{Upload: 1, Download: 2}
	if r.Upload != nil {
		l.Upload = *r.Upload
	}
	return l, nil
}

func (f *fake) Verify(_ context.Context, r VerifyRequest) (VerifyReply, error) {
	return VerifyReply{Name: r.Target.Arg, Next: r.Piece + 1}, nil
}

func fakeCode(err error) int {
	if errors.Is(err, errFake) {
		return 42
	}
	return 1
}

// serving runs a server for a folder until the test ends, or stop is called.
func serving(t *testing.T, dir string, d Daemon) (stop func()) {
	t.Helper()
	s := NewServer(dir, d, fakeCode, slog.New(slog.DiscardHandler))
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var g sync.WaitGroup
	g.Go(func() {
		if err := s.Serve(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want the end of the context", err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); g.Wait() })
	t.Cleanup(stop)
	return stop
}

func TestEveryCallReachesTheDaemon(t *testing.T) {
	dir := t.TempDir()
	serving(t, dir, &fake{})
	c, ctx := NewClient(dir), t.Context()
	odd := Target{Arg: "a b&c=%2f\n", Path: "/päth \"x\""}
	if st, err := c.Status(ctx, odd); err != nil || st.Version != odd.Arg || st.Mount != odd.Path {
		t.Errorf("status: got %+v, %v", st, err)
	}
	big := AddRequest{Label: "l", Torrent: make([]byte, 30<<20), Magnet: "m"}
	if r, err := c.Add(ctx, big); err != nil || r.Name != fmt.Sprintf("l %d m", 30<<20) {
		t.Errorf("add: got %q, %v", r.Name, err)
	}
	if d, err := c.Remove(ctx, odd); err != nil || d.Name != odd.Arg {
		t.Errorf("remove: got %+v, %v", d, err)
	}
	if d, err := c.Pin(ctx, odd); err != nil || d != (Done{Name: odd.Path, Pieces: 3}) {
		t.Errorf("pin: got %+v, %v", d, err)
	}
	var remote *Error
	if v, err := c.Verify(ctx, VerifyRequest{Target: odd, Piece: 7}); err != nil || v != (VerifyReply{Name: odd.Arg, Next: 8}) {
		t.Errorf("verify: got %+v, %v", v, err)
	}
	if _, err := c.Unpin(ctx, odd); !errors.As(err, &remote) || *remote != (Error{Message: errFake.Error(), Code: 42}) {
		t.Errorf("unpin: got %v, want the daemon's error and its code", err)
	}
	if l, err := c.Limit(ctx, LimitRequest{Upload: new(int64(7))}); err != nil || l != (Limits{Upload: 7, Download: 2}) {
		t.Errorf("limit: got %+v, %v", l, err)
	}
}

func TestTheSocketIsTheOwnersAlone(t *testing.T) {
	dir := t.TempDir()
	stop := serving(t, dir, &fake{})
	st, err := os.Stat(filepath.Join(dir, socketName))
	if err != nil || st.Mode() != os.ModeSocket|0o600 {
		t.Fatalf("got %v, %v, want a socket of mode 0600", st.Mode(), err)
	}
	stop()
	if _, err := os.Lstat(filepath.Join(dir, socketName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after the end: %v, want no socket", err)
	}
}

func TestASocketLeftBehindIsReplaced(t *testing.T) {
	dir := t.TempDir()
	l, err := listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	l.Listener.Close() // the file stays, as after a kill
	if _, err := NewClient(dir).Status(t.Context(), Target{}); !errors.Is(err, ErrNoDaemon) {
		t.Errorf("got %v, want ErrNoDaemon", err)
	}
	serving(t, dir, &fake{})
	if _, err := NewClient(dir).Status(t.Context(), Target{}); err != nil {
		t.Error(err)
	}
}

func TestASocketThatIsDeletedComesBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	stop := serving(t, dir, &fake{})
	for range 2 {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := NewClient(dir).Status(t.Context(), Target{}); !errors.Is(err, ErrNoDaemon) {
			t.Errorf("got %v, want ErrNoDaemon", err)
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		err := ErrNoDaemon
		for deadline := time.Now().Add(5 * missingEvery); err != nil && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			_, err = NewClient(dir).Status(t.Context(), Target{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	// Somebody else's is left alone.
	path := filepath.Join(dir, socketName)
	if err := errors.Join(os.Rename(path, path+".old"), os.WriteFile(path, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	stop()
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

func TestASocketThatCannotBeMadeAtTheStartIsMadeLater(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := NewServer(dir, &fake{}, fakeCode, slog.New(slog.DiscardHandler))
	if err := s.Listen(); err == nil {
		t.Fatal("there is a socket in no folder")
	}
	ctx, cancel := context.WithCancel(t.Context())
	var g sync.WaitGroup
	g.Go(func() {
		if err := s.Serve(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want the end of the context", err)
		}
	})
	defer g.Wait()
	defer cancel()
	time.Sleep(50 * time.Millisecond) // it has tried: sooner, and nothing is tested
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	err := ErrNoDaemon
	for deadline := time.Now().Add(5 * missingEvery); err != nil && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		_, err = NewClient(dir).Status(t.Context(), Target{})
	}
	if err != nil {
		t.Error(err)
	}
}

func TestWhatIsNoSocketStays(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, socketName)
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listen(dir); err == nil {
		t.Fatal("a file was replaced")
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "mine" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestAFolderOfALongNameHasASocket(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 200))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	stop := serving(t, dir, &fake{})
	if _, err := NewClient(dir).Status(t.Context(), Target{}); err != nil {
		t.Error(err)
	}
	stop()
	if _, err := NewClient(dir).Status(t.Context(), Target{}); !errors.Is(err, ErrNoDaemon) {
		t.Errorf("got %v, want ErrNoDaemon", err)
	}
}

func TestWithoutAFolderThereIsNoDaemon(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{filepath.Join(t.TempDir(), "none"), file, filepath.Join(t.TempDir(), strings.Repeat("d", 200))} {
		if _, err := NewClient(dir).Status(t.Context(), Target{}); !errors.Is(err, ErrNoDaemon) {
			t.Errorf("%.30s: got %v, want ErrNoDaemon", dir, err)
		}
	}
}

func TestTheEndEndsWhatIsUnderWay(t *testing.T) {
	dir := t.TempDir()
	f := &fake{blocked: make(chan struct{})}
	stop := serving(t, dir, f)
	var g sync.WaitGroup
	g.Go(func() {
		if _, err := NewClient(dir).Status(t.Context(), Target{Arg: "wait"}); err == nil {
			t.Error("got an answer of a daemon that was stopped")
		}
	})
	<-f.blocked
	stop()
	g.Wait()
}

func TestRequestsThatMakeNoSenseAreRefused(t *testing.T) {
	h := NewServer("", &fake{}, fakeCode, slog.New(slog.DiscardHandler)).handler()
	for _, tc := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "/v1/pin", `{"arg":"a","path":"b"}`, http.StatusOK},
		{"POST", "/v1/unpin", `{"arg":"a"}`, http.StatusUnprocessableEntity},
		{"POST", "/v1/pin", ``, http.StatusBadRequest},
		{"POST", "/v1/pin", `{"arg":"a"} {}`, http.StatusBadRequest},
		{"POST", "/v1/pin", `{"other":1}`, http.StatusBadRequest},
		{"POST", "/v1/pin", `{"arg":"` + strings.Repeat("a", maxBody) + `"}`, http.StatusBadRequest},
		{"POST", "/v1/limit", `{"upload":"fast"}`, http.StatusBadRequest},
		{"POST", "/v1/limit", `{"upload":1e30}`, http.StatusBadRequest},
		{"GET", "/v1/pin", ``, http.StatusNotFound},
		{"POST", "/v2/pin", `{}`, http.StatusNotFound},
		{"GET", "/", ``, http.StatusNotFound},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(tc.method, tc.path, strings.NewReader(tc.body)))
		if w.Code != tc.status {
			t.Errorf("%s %s %.30s: got %d, want %d", tc.method, tc.path, tc.body, w.Code, tc.status)
		}
		if w.Code != http.StatusOK {
			var e Error
			if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Message == "" || e.Code == 0 {
				t.Errorf("%s %s: got %q, want an error with a code", tc.method, tc.path, w.Body)
			}
		}
	}
}

// Whatever is sent, the server answers with JSON, and what it takes for a
// request is one.
func FuzzRequest(f *testing.F) {
	for _, body := range []string{`{"arg":"a","path":"/b"}`, `{"upload":5}`, `{"label":"x","torrent":"ZGU="}`, `{}`, `[`, `{"arg":1}`, "\xff", `{"arg":"a"}x`} {
		for _, verb := range []string{"add", "pin", "limit"} {
			f.Add(verb, []byte(body))
		}
	}
	h := NewServer("", &fake{}, fakeCode, slog.New(slog.DiscardHandler)).handler()
	f.Fuzz(func(t *testing.T, verb string, body []byte) {
		switch verb {
		case "add", "remove", "pin", "unpin", "limit", "verify":
		default:
			verb = "pin"
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("POST", "/v1/"+verb, bytes.NewReader(body)))
		if !json.Valid(w.Body.Bytes()) {
			t.Fatalf("answer is no JSON: %q", w.Body)
		}
		taken := w.Code == http.StatusOK || w.Code == http.StatusUnprocessableEntity
		if taken && !json.Valid(body) {
			t.Fatalf("%q was taken for a request", body)
		}
	})
}

func TestAnAnswerThatIsNoneIsAnError(t *testing.T) {
	dir := t.TempDir()
	l, err := listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "pin") {
			w.WriteHeader(http.StatusTeapot)
		}
		_, _ = io.WriteString(w, "<html>")
	})}
	var g sync.WaitGroup
	g.Go(func() { _ = server.Serve(l) })
	defer g.Wait()
	defer server.Close()
	c := NewClient(dir)
	if _, err := c.Status(t.Context(), Target{}); err == nil || errors.Is(err, ErrNoDaemon) {
		t.Errorf("got %v, want an error about the answer", err)
	}
	if _, err := c.Pin(t.Context(), Target{}); err == nil || !strings.Contains(err.Error(), "418") {
		t.Errorf("got %v, want the status of the answer", err)
	}
}
