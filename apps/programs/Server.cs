using System;
using System.Net;
using System.Text;

// .NET's HttpListener: a counter.
class Server
{
    static void Main()
    {
        var listener = new HttpListener();
        listener.Prefixes.Add("http://*:8080/");
        listener.Start();
        for (long calls = 1; ; calls++)
        {
            var context = listener.GetContext();
            var body = Encoding.UTF8.GetBytes("ok " + calls + "\n");
            context.Response.ContentLength64 = body.Length;
            context.Response.OutputStream.Write(body, 0, body.Length);
            context.Response.Close();
        }
    }
}
