// Publishing by WHIP (RFC 9725) from a page, as the tests do it; what Loom's own page does is in examples/server/web.
globalThis.whip = {
    /**
     * Offers `tracks`, each {track, stream, layers}, and connects; a kind in place of a track is one that begins late. Gives the session; where nothing comes of it {refused}, or
     * {missing} for a codec that this browser does not send, or a kind of candidate (`only`) that the server does not offer.
     */
    async publish({url, token, codec, tracks, ice = {iceServers: []}, only}) {
        const named = (one) => one.mimeType.toLowerCase() === `video/${codec}`;
        const capable = RTCRtpSender.getCapabilities('video').codecs;
        const known = capable.filter(named);
        if (!known.length) return {missing: codec};
        known.push(...capable.filter((one) => one.mimeType.toLowerCase() === 'video/rtx')); // as every page has it that prefers nothing
        const peer = new RTCPeerConnection(ice);
        for (const {track, stream, layers} of tracks) {
            const encodings = layers ? {sendEncodings: layers} : {};
            const sender = peer.addTransceiver(track, {direction: 'sendonly', streams: [stream], ...encodings});
            if ((track.kind ?? track) === 'video') sender.setCodecPreferences(known);
        }
        await peer.setLocalDescription();
        await whip.gathered(peer);
        const authorization = `Bearer ${token}`;
        const headers = {authorization, 'content-type': 'application/sdp'};
        const answered = await fetch(url, {method: 'POST', headers, body: peer.localDescription.sdp});
        let answer = await answered.text();
        if (answered.status !== 201) return {refused: answer};
        if (only) {
            const offered = answer.split('\r\n').filter((line) => line.startsWith('a=candidate:'));
            const fits = (line) => line.split(' ')[2].toLowerCase() === only;
            if (!offered.some(fits)) return {missing: only, offered};
            answer = answer.split('\r\n').filter((line) => !offered.includes(line) || fits(line)).join('\r\n');
        }
        const session = {
            peer, answer, authorization, resource: new URL(answered.headers.get('location'), url).href, etag: answered.headers.get('etag'),
        };
        const connected = whip.connected(peer);
        await peer.setRemoteDescription({type: 'answer', sdp: answer});
        await connected;
        return session;
    },

    gathered: (peer) => new Promise((done) => {
        if (peer.iceGatheringState === 'complete') done();
        peer.addEventListener('icegatheringstatechange', () => peer.iceGatheringState === 'complete' && done());
        setTimeout(done, 3000);
    }),

    connected: (peer) => new Promise((done, fail) => {
        peer.addEventListener('connectionstatechange', () => {
            if (peer.connectionState === 'connected') done();
            if (peer.connectionState === 'failed') fail(new Error('the connection failed'));
        });
        setTimeout(() => fail(new Error(`not connected after 20 s: ${peer.connectionState}, ${peer.iceConnectionState}`)), 20000);
    }),

    /** Restarts ICE (RFC 9725 §4.3.3) and waits until media goes over the new pair. Gives the remote fragments, before and after. */
    async restart(session) {
        const {peer} = session;
        const value = (sdp, name) => sdp.match(new RegExp(`^a=${name}:(.*)$`, 'm'))[1].trim();
        await peer.setLocalDescription(await peer.createOffer({iceRestart: true}));
        await whip.gathered(peer);
        const offer = peer.localDescription.sdp;
        const lines = offer.split('\r\n');
        const section = lines.slice(lines.findIndex((line) => line.startsWith('m=')));
        const first = section.slice(0, 1 + section.slice(1).findIndex((line) => line.startsWith('m=')));
        const kept = first.filter((line) => /^(m=|a=(mid|ice-ufrag|ice-pwd|candidate|end-of-candidates))/.test(line));
        const body = [...lines.filter((line) => line.startsWith('a=group:BUNDLE')), ...kept, ''].join('\r\n');
        const headers = {authorization: session.authorization, 'content-type': 'application/trickle-ice-sdpfrag', 'if-match': session.etag};
        const answered = await fetch(session.resource, {method: 'PATCH', headers, body});
        const told = await answered.text();
        if (answered.status !== 200) throw new Error(`the restart was answered with ${answered.status}: ${told}`);
        session.etag = answered.headers.get('etag');
        const candidates = told.split('\r\n').filter((line) => line.startsWith('a=candidate:'));
        const before = value(session.answer, 'ice-ufrag');
        session.answer = session.answer.split('\r\n').flatMap((line) => {
            if (line.startsWith('a=ice-ufrag:')) return [`a=ice-ufrag:${value(told, 'ice-ufrag')}`];
            if (line.startsWith('a=ice-pwd:')) return [`a=ice-pwd:${value(told, 'ice-pwd')}`];
            return line.startsWith('a=candidate:') ? [] : [line];
        }).join('\r\n');
        const at = session.answer.indexOf('a=ice-ufrag:');
        session.answer = session.answer.slice(0, at) + candidates.map((line) => `${line}\r\n`).join('') + session.answer.slice(at);
        await peer.setRemoteDescription({type: 'answer', sdp: session.answer});
        const pair = async () => {
            const stats = [...(await peer.getStats()).values()];
            const chosen = stats.find((one) => one.type === 'transport')?.selectedCandidatePairId;
            return stats.find((one) => one.id === stats.find((one) => one.id === chosen)?.localCandidateId)?.usernameFragment;
        };
        const own = value(offer, 'ice-ufrag');
        const limit = performance.now() + 20000;
        while (await pair() !== own) {
            if (performance.now() > limit) throw new Error('nothing goes over the new pair after 20 s');
            await new Promise((done) => setTimeout(done, 50));
        }
        return [before, value(told, 'ice-ufrag')];
    },

    /** Deletes the WHIP resource. */
    async end({peer, resource, authorization}) {
        await fetch(resource, {method: 'DELETE', headers: {authorization}});
        peer.close();
    },
};
