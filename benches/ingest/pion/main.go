// Receives by Pion, on which MediaMTX stands: `receive-pion ADDRESS FOLDER`. One UDP socket for all publishers, as MediaMTX has it.
package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp/codecs"
	"github.com/pion/webrtc/v3"
	"github.com/pion/webrtc/v3/pkg/media/samplebuilder"
)

const buffer = 64 * 1024

// The files of one publisher, and what was written to them.
type written struct {
	lock     sync.Mutex
	pictures *bufio.Writer
	sounds   *bufio.Writer
	Pictures uint64   `json:"pictures"`
	Keys     uint64   `json:"keys"`
	Sounds   uint64   `json:"sounds"`
	Gaps     uint64   `json:"gaps"`
	FirstKey *float64 `json:"first_key"`
}

func (w *written) picture(stream []byte) {
	w.lock.Lock()
	defer w.lock.Unlock()
	w.pictures.Write(stream)
	w.Pictures++
	for at := 0; at+4 < len(stream); at++ {
		if stream[at] != 0 || stream[at+1] != 0 || stream[at+2] != 1 {
			continue
		}
		kind := stream[at+3] & 0x1f
		if kind == 5 {
			w.Keys++
			if w.FirstKey == nil {
				now := float64(time.Now().UnixNano()) / 1e9
				w.FirstKey = &now
			}
		}
		if kind >= 1 && kind <= 5 {
			return
		}
		at += 3
	}
}

func (w *written) sound(packet []byte) {
	w.lock.Lock()
	defer w.lock.Unlock()
	var length [4]byte
	binary.BigEndian.PutUint32(length[:], uint32(len(packet)))
	w.sounds.Write(length[:])
	w.sounds.Write(packet)
	w.Sounds++
}

func (w *written) gap() {
	w.lock.Lock()
	defer w.lock.Unlock()
	w.Gaps++
}

type receiver struct {
	folder string
	mux    webrtc.SettingEngine
	lock   sync.Mutex
	all    map[string]*written
}

func (r *receiver) publisher(name string) (*written, error) {
	pictures, err := os.Create(r.folder + "/" + name + ".h264")
	if err != nil {
		return nil, err
	}
	sounds, err := os.Create(r.folder + "/" + name + ".opus")
	if err != nil {
		return nil, err
	}
	w := &written{pictures: bufio.NewWriterSize(pictures, buffer), sounds: bufio.NewWriterSize(sounds, buffer)}
	r.lock.Lock()
	defer r.lock.Unlock()
	r.all[name] = w
	return w, nil
}

func (r *receiver) ServeHTTP(answer http.ResponseWriter, request *http.Request) {
	offer, err := io.ReadAll(request.Body)
	if err == nil {
		var text string
		if text, err = r.answer(request.URL.Path[1:], string(offer)); err == nil {
			answer.Header().Set("content-type", "application/sdp")
			answer.Header().Set("content-length", fmt.Sprint(len(text)))
			answer.WriteHeader(http.StatusCreated)
			io.WriteString(answer, text)
			return
		}
	}
	http.Error(answer, err.Error(), http.StatusServiceUnavailable)
}

func (r *receiver) answer(name, offer string) (string, error) {
	engine := &webrtc.MediaEngine{}
	if err := engine.RegisterDefaultCodecs(); err != nil {
		return "", err
	}
	registry := &interceptor.Registry{}
	if err := webrtc.RegisterDefaultInterceptors(engine, registry); err != nil {
		return "", err
	}
	api := webrtc.NewAPI(webrtc.WithMediaEngine(engine), webrtc.WithInterceptorRegistry(registry), webrtc.WithSettingEngine(r.mux))
	connection, err := api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return "", err
	}
	w, err := r.publisher(name)
	if err != nil {
		return "", err
	}
	connection.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		if track.Kind() == webrtc.RTPCodecTypeAudio {
			for {
				packet, _, err := track.ReadRTP()
				if err != nil {
					return
				}
				w.sound(packet.Payload)
			}
		}
		samples := samplebuilder.New(512, &codecs.H264Packet{}, track.Codec().ClockRate)
		for {
			packet, _, err := track.ReadRTP()
			if err != nil {
				return
			}
			samples.Push(packet)
			for sample := samples.Pop(); sample != nil; sample = samples.Pop() {
				if sample.PrevDroppedPackets > 0 {
					w.gap()
					connection.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: uint32(track.SSRC())}})
				}
				w.picture(sample.Data)
			}
		}
	})
	gathered := webrtc.GatheringCompletePromise(connection)
	if err := connection.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer}); err != nil {
		return "", err
	}
	answer, err := connection.CreateAnswer(nil)
	if err != nil {
		return "", err
	}
	if err := connection.SetLocalDescription(answer); err != nil {
		return "", err
	}
	<-gathered
	return connection.LocalDescription().SDP, nil
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "say where to listen and where to write: ADDRESS FOLDER")
		os.Exit(2)
	}
	r := &receiver{folder: os.Args[2], all: map[string]*written{}}
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		panic(err)
	}
	socket.SetReadBuffer(8 * 1024 * 1024)
	r.mux.SetICEUDPMux(webrtc.NewICEUDPMux(nil, socket))
	r.mux.SetLite(true)
	r.mux.SetIncludeLoopbackCandidate(true)
	r.mux.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		panic(err)
	}
	go http.Serve(listener, r)
	fmt.Println("ready")
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	<-end
	for _, w := range r.all {
		w.lock.Lock()
		w.pictures.Flush()
		w.sounds.Flush()
	}
	told, _ := json.Marshal(map[string]interface{}{"written": r.all})
	fmt.Println(string(told))
}
